"""What is on its way to the server: frames that wait for their reply, and what one session has still to write."""

import trio
from attrs import define, field

from ironwire.errors import ClientError
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    Ack,
    DeviceList,
    DeviceRemove,
    DeviceRemoved,
    Devices,
    Error,
    File,
    Receipt,
    Text,
)

Request = Text | File | Receipt | Devices | DeviceRemove
Reply = Accepted | Error | DeviceList | DeviceRemoved


@define(eq=False)
class Pending:
    """A message without a reply, to be sent again in every new session. `is_kept`: it is in the device's store."""

    id: MessageId
    message: Request
    is_kept: bool
    is_awaited: bool = True
    reply: Reply | ClientError | None = None
    replied: trio.Event = field(factory=trio.Event)
    frame: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.frame = encode(self.message, self.id).decode()

    @property
    def frame_bytes(self) -> int:
        return len(self.frame.encode())

    def answer(self, reply: Reply | ClientError) -> None:
        self.reply = reply
        self.replied.set()


@define(eq=False)
class Outbox:
    """To the writer of one session: no more than the messages without a reply, and one ack however many are due."""

    _ready: trio.MemorySendChannel[MessageId | None] = field(init=False)
    _taken: trio.MemoryReceiveChannel[MessageId | None] = field(init=False)
    _ack_upto: int | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._ready, self._taken = trio.open_memory_channel[MessageId | None](float("inf"))

    def send(self, message_id: MessageId) -> None:
        self._ready.send_nowait(message_id)

    def ack(self, upto: int) -> None:
        """Everything up to `upto` that came in this session is stored."""
        if self._ack_upto is None:
            self._ready.send_nowait(None)
        self._ack_upto = upto

    async def next(self) -> MessageId | Ack:
        """What to write next."""
        message_id = await self._taken.receive()
        if message_id is not None:
            return message_id
        upto, self._ack_upto = self._ack_upto, None
        return Ack(upto or 0)
