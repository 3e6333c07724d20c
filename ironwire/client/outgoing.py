"""What is on its way to the server: frames that wait for their reply, and what one session has still to write."""

from typing import TypeVar

import trio
from attrs import define, field

from ironwire.client.errors import NotTheProtocol, Refused
from ironwire.errors import ClientError
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    Ack,
    BlockList,
    ClientMessage,
    DeviceList,
    DeviceRemoved,
    Error,
    GroupDetails,
    GroupList,
    IceServerList,
    UploadGrant,
)

Answer = Accepted | DeviceList | DeviceRemoved | GroupDetails | GroupList | BlockList | IceServerList | UploadGrant
"""What the server says to a request that it has carried out."""

Reply = Answer | Error


R = TypeVar("R", bound=Answer)


def checked(reply: Reply, kind: type[R]) -> R:
    """`reply`, which has to be of that kind.

    Raises:
        Refused: it is an error.
        NotTheProtocol: it is something else.
    """
    if isinstance(reply, Error):
        raise Refused(reply.msg, reply.detail, reply.user, reply.retry_after_ms)
    if not isinstance(reply, kind):
        raise NotTheProtocol(f"the server gave another answer than there is: `{reply.verb}`")
    return reply


@define(eq=False)
class Pending:
    """A message without a reply, to be sent again in every new session.

    `is_kept`: it is in the device's store, and goes out whether or not somebody awaits the reply. `is_announced`: the
    program hears of it, and of its reply, as of events.
    """

    id: MessageId
    message: ClientMessage
    is_kept: bool = False
    is_awaited: bool = True
    is_announced: bool = False
    reply: Reply | ClientError | None = None
    replied: trio.Event = field(factory=trio.Event)
    frame: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.frame = encode(self.message, self.id).decode()

    @property
    def frame_bytes(self) -> int:
        return len(self.frame.encode())

    @property
    def is_wanted(self) -> bool:
        return self.is_kept or self.is_awaited

    async def reply_or_error(self) -> Reply:
        """The reply, once it is there.

        Raises:
            ClientError: there will be none.
        """
        try:
            await self.replied.wait()
        finally:
            self.is_awaited = False
        if self.reply is None or isinstance(self.reply, ClientError):
            raise self.reply or ClientError("an answer that is none")
        return self.reply

    def answer(self, reply: Reply | ClientError) -> None:
        self.reply = reply
        self.replied.set()


@define(eq=False)
class Outbox:
    """To the writer of one session: the messages without a reply, what wants none, and one ack however many are due."""

    _ready: trio.MemorySendChannel[Pending | ClientMessage | None] = field(init=False)
    _taken: trio.MemoryReceiveChannel[Pending | ClientMessage | None] = field(init=False)
    _ack_upto: int | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._ready, self._taken = trio.open_memory_channel[Pending | ClientMessage | None](float("inf"))

    def send(self, pending: Pending) -> None:
        """A message that waits for its reply."""
        self._ready.send_nowait(pending)

    def say(self, message: ClientMessage) -> None:
        """A message that is said once, in this session, and answered only if something is wrong with it."""
        self._ready.send_nowait(message)

    def ack(self, upto: int) -> None:
        """Everything up to `upto` that came in this session is stored."""
        if self._ack_upto is None:
            self._ready.send_nowait(None)
        self._ack_upto = upto

    async def next(self) -> Pending | ClientMessage:
        """What to write next."""
        ready = await self._taken.receive()
        if ready is not None:
            return ready
        upto, self._ack_upto = self._ack_upto, None
        return Ack(upto or 0)
