"""Messages on their way to the server: frames that wait for their reply, and what one session has still to write."""

from collections.abc import Callable
from typing import TypeVar
from uuid import uuid4

import trio
from attrs import define, field

from ironwire.client.errors import NotTheProtocol, Refused
from ironwire.client.store.numbers import Given
from ironwire.e2e.bodies import AnyBody
from ironwire.errors import ClientError, InvalidMessage
from ironwire.ids import Address, MessageId
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_client, encode
from ironwire.wire.messages.fields import SAFE_INTEGER

Reply = msg.Answer | msg.Error

NUMBER_BYTES = len(f',"n":{SAFE_INTEGER}')

_Ready = tuple[MessageId, int | None] | msg.ClientMessage | None
"""A message that waits for its reply, by its id and, if its order matters, the number of holds before it; a message
that is said once; None for an ack.
"""


AskedAnswer = TypeVar("AskedAnswer", bound=msg.Answer)


def new_message_id() -> MessageId:
    """An id that no other message has."""
    return MessageId(uuid4().hex)


def checked(asked: str, reply: Reply, kind: type[AskedAnswer]) -> AskedAnswer:
    """`reply` to the verb `asked`, which has to be of that kind.

    Raises:
        Refused: it is an error.
        NotTheProtocol: it is something else.
    """
    if isinstance(reply, msg.Error):
        raise Refused(reply.msg, reply.detail, reply.user, reply.retry_after_ms)
    if not isinstance(reply, kind):
        raise NotTheProtocol(f"the server gave another answer to `{asked}` than there is")
    return reply


@define(eq=False)
class Pending:
    """A message without a reply, to be sent again in every new session.

    `body` goes encrypted instead of the message, or not at all. `letter` is the kept message of which this one is the
    encrypted form: it has the number of this one. `then` is told the reply at once.
    `is_kept`: it is in the device's store, and goes out whether or not somebody awaits the reply. `is_announced`: the
    program hears of it, and of its reply, as of events. To make one raises `Refused` where every server would refuse
    the message: nobody has to wait for that.
    """

    id: MessageId
    message: msg.ClientMessage
    body: AnyBody | None = None
    is_kept: bool = False
    is_awaited: bool = True
    is_announced: bool = False
    letter: "Pending | None" = None
    then: Callable[["Reply | ClientError"], None] | None = None
    reply: Reply | ClientError | None = None
    replied: trio.Event = field(factory=trio.Event)
    given: Given | None = field(default=None, init=False)
    """The number that a device has given it."""
    n: int | None = field(default=None, init=False)
    """The number under which it was sent last, or may have been; of a letter, that of its encrypted form."""
    was_encrypted: bool = field(default=False, init=False)
    """Whether an earlier run of the program has sent it encrypted, under `n`."""
    frame: str = field(init=False)
    is_ordered: bool = field(init=False)
    """Whether no later message may be accepted before it."""
    _bare_bytes: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self.frame = encode(self.message, self.id).decode()
            decode_client(self.frame)
        except TypeError:
            raise Refused("invalid", "half of a surrogate pair is no character: no server takes it") from None
        except InvalidMessage as error:
            raise Refused("invalid", error.detail) from None
        self.is_ordered = self.message.is_ordered
        self._bare_bytes = len(self.frame.encode())

    @property
    def recipient(self) -> Address | None:
        """The client or group that an envelope is for; None for a request."""
        message = self.message if self.letter is None else self.letter.message
        return message.to if isinstance(message, msg.Text | msg.File | msg.Receipt) else None

    @property
    def is_numbered(self) -> bool:
        """Whether a device gives it a number: it knows after every crash that it may have sent it."""
        return self.is_kept or self.letter is not None

    @property
    def is_patient(self) -> bool:
        """Whether nobody waits for the answer who could decide what to do about a refusal for now."""
        if self.letter is not None:
            return self.letter.is_patient
        return isinstance(self.message, msg.MlsSend) or (self.is_kept and not self.is_awaited)

    @property
    def frame_bytes(self) -> int:
        """The size of its frame, with room for a number if it gets one."""
        return self._bare_bytes + (NUMBER_BYTES if self.is_numbered else 0)

    def number(self, n: int) -> None:
        """Send it under this number from now on."""
        self._note_number(n)
        self.frame = encode(self.message, self.id, n).decode()

    def void_number(self) -> None:
        """Its number was refused, or stands for something else now."""
        self._note_number(None)

    def _note_number(self, n: int | None) -> None:
        self.n = n
        if self.letter is not None:
            self.letter.n = n

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

    def check_size(self, most: int | None) -> None:
        """Raises:
        Refused: the server would close the session over this frame.
        """
        if self.is_above(most):
            raise Refused("too_large", f"this message takes {self.frame_bytes} bytes; the server takes {most}")

    def is_above(self, most: int | None) -> bool:
        """Whether the frame is too large for a server that takes `most` bytes."""
        return most is not None and self.frame_bytes > most

    def answer(self, reply: Reply | ClientError) -> None:
        self.reply = reply
        self.replied.set()
        if self.then is not None:
            self.then(reply)


@define(eq=False)
class SendQueue:
    """The queue to the writer of one session: messages that wait for a reply, those that want none, and at most one
    ack.

    While the server holds the session (docs/protocol.md, section 4), nothing whose order matters is written: all of it
    is sent again, in order, once the session goes on.
    """

    _ready: trio.MemorySendChannel[_Ready] = field(init=False)
    _taken: trio.MemoryReceiveChannel[_Ready] = field(init=False)
    _ack_upto: int | None = field(default=None, init=False)
    is_held: bool = field(default=False, init=False)
    _holds: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._ready, self._taken = trio.open_memory_channel[_Ready](float("inf"))

    def send(self, pending: Pending) -> None:
        """Queue a message that waits for its reply."""
        if not pending.is_ordered:
            self._ready.send_nowait((pending.id, None))
        elif not self.is_held:
            self._ready.send_nowait((pending.id, self._holds))

    def hold(self) -> None:
        """Write nothing more whose order matters, not even what was sent here before."""
        self.is_held = True
        self._holds += 1

    def resume(self) -> None:
        """The server takes what is sent from now on."""
        self.is_held = False

    def say(self, message: msg.ClientMessage) -> None:
        """Queue a message that is said once, in this session, and answered only if something is wrong with it."""
        self._ready.send_nowait(message)

    def ack(self, upto: int) -> None:
        """Queue an ack: everything up to `upto` that came in this session is stored."""
        if self._ack_upto is None:
            self._ready.send_nowait(None)
        self._ack_upto = upto

    async def next(self) -> MessageId | msg.ClientMessage:
        """The next to write: a message, or the id of one that waits for its reply."""
        while True:
            match await self._taken.receive():
                case None:
                    upto, self._ack_upto = self._ack_upto, None
                    return msg.Ack(upto or 0)
                case (message_id, hold):
                    if hold is None or hold == self._holds:
                        return message_id
                case message:
                    return message
