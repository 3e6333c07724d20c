"""The messages of one client that wait for a reply, over all its sessions.

Rules: a message goes out again, under the same id, in every session until it is answered; a server that remembers ids
accepts it once (docs/protocol.md, section 4). A refusal that says "send again later" is no answer (`repeats.py`). A
device keeps a message before it sends it (`client/store/backlog.py`), with the number of the attempt (`numbers.py`):
`auth_ok` of the next session answers the numbers that were settled. The server forgets at the end of a session what a
client shows and watches (section 7.3): every new session begins with it.
"""

from functools import partial

import trio
from attrs import define, field

from ironwire.client.callbook import CallBook
from ironwire.client.connection.outgoing import AskedAnswer, Pending, Reply, SendQueue, checked, new_message_id
from ironwire.client.connection.repeats import Repeats
from ironwire.client.encryption import Encryption
from ironwire.client.errors import ClientError, NotTheProtocol, Refused
from ironwire.client.events import EventQueue
from ironwire.client.inbox import Inbox
from ironwire.client.letters import CANNOT_READ
from ironwire.client.store.backlog import Backlog
from ironwire.client.store.numbers import Given, Numbers
from ironwire.client.store.records import GiveNumber, Sendable, VoidNumber
from ironwire.client.store.write_queue import WriteQueue
from ironwire.ids import Address, MessageId
from ironwire.limits import Limits
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Accepted, AuthOk, ClientMessage, Error
from ironwire.wire.messages.fields import is_retryable


@define(eq=False)
class Requests:
    """The requests of one client, over all its sessions. With a write queue the client is a device."""

    write_queue: WriteQueue | None
    events: EventQueue | Inbox
    _calls: CallBook
    backlog: Backlog | None = field(init=False)
    stopped: ClientError | None = field(default=None, init=False)
    """Why nothing can be asked now: the client has ended, or waits for `reconnect_now`."""
    numbers: Numbers | None = field(default=None, init=False)
    """The numbers of a device, once its file was read."""
    _lacks_numbers: bool = field(default=False, init=False)
    """Messages wait for a number until another one is answered."""
    _standing: dict[str, ClientMessage] = field(factory=dict, init=False)
    """By verb: the messages with which every session begins."""
    _pending: dict[MessageId, Pending] = field(factory=dict, init=False)
    """In the order in which they are sent. Of the messages that a device keeps, the first ones are here."""
    _send_queue: SendQueue | None = field(default=None, init=False)
    _repeats: Repeats | None = field(default=None, init=False)
    """These two are of the live session."""
    encryption: Encryption | None = field(default=None, init=False)
    """Of a device with a key: has messages before they are sent in the clear."""
    _frame_bytes: int | None = field(default=None, init=False)
    upload_bytes: int = field(default=Limits().upload_bytes, init=False)
    """The largest upload that the server takes; that of a server with the defaults, until it has said so."""

    def __attrs_post_init__(self) -> None:
        if self.write_queue is None:
            self.backlog = None
        else:
            self.backlog = Backlog(self.write_queue, self.events, self._launch, self.give_number)

    @property
    def has_session(self) -> bool:
        """Whether messages go out now."""
        return self._send_queue is not None

    @property
    def hold_until(self) -> float:
        """When the server takes the next message, on Trio's clock; in the past, unless it has asked for a pause."""
        return 0.0 if self._repeats is None else self._repeats.hold_until

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self, message: ClientMessage, kind: type[AskedAnswer], message_id: MessageId | None = None
    ) -> AskedAnswer:
        """Send `message`, which a device keeps first if it is for somebody else, and wait for the reply.

        Args:
            message_id: a new one, unless given.

        Raises:
            Refused: the server answered with an error, or would have.
            ClientError: the client has stopped.
        """
        return checked(message.verb, await self.reply_to(message, message_id), kind)

    async def reply_to(self, message: ClientMessage, message_id: MessageId | None = None) -> Reply:
        """The same, but an error is returned like any other reply."""
        pending = Pending(message_id or new_message_id(), message)
        pending.check_size(self._frame_bytes)
        if self.stopped is not None:
            raise self.stopped
        if self.backlog is not None and isinstance(message, Sendable):
            self.backlog.keep(pending, message)
        else:
            self.launch_plain(pending)
        try:
            return await pending.reply_or_error()
        finally:
            if not pending.is_kept:
                self._pending.pop(pending.id, None)

    async def stand(self, message: ClientMessage) -> Accepted:
        """Ask, and say it again in every session until a message of the same verb takes its place. Raises as `ask`."""
        self._standing[message.verb] = message
        try:
            return await self.ask(message, Accepted)
        except Refused:
            if self._standing.get(message.verb) is message:
                del self._standing[message.verb]
            raise

    def say(self, message: ClientMessage) -> None:
        """Send `message` now, or never where there is no session: it is worth nothing later."""
        if self._send_queue is not None:
            self._send_queue.say(message)

    def fail_waiting(self, error: ClientError) -> None:
        """Raise `error` in every task that waits for a reply."""
        for pending in [*self._pending.values(), *(self.backlog.awaited() if self.backlog is not None else ())]:
            pending.answer(error)

    # --- one session -------------------------------------------------------------------------------------------------

    def begin(self, nursery: trio.Nursery, welcome: AuthOk) -> tuple[SendQueue, Repeats]:
        """A session began: everything without a reply goes out again, in order. `end` follows.

        Args:
            nursery: for pauses; it ends with the session.
            welcome: the bounds of the server, and its answers to numbers of earlier sessions.
        """
        if welcome.limits is not None:
            self._frame_bytes = welcome.limits.frame_bytes
            self.upload_bytes = welcome.limits.upload_bytes
        if self.numbers is not None:
            self._take_answers(self.numbers, welcome)
        send_queue = SendQueue()
        repeats = Repeats(send_queue, self._pending, nursery, self._note_moved, self._send_all, self._send_again)
        for message in self._standing.values():
            send_queue.say(message)
        self._send_queue, self._repeats = send_queue, repeats
        for pending in [*self._pending.values()]:
            self._send(pending, repeats)
        return send_queue, repeats

    def end(self) -> None:
        """The session is over."""
        self._send_queue = self._repeats = None
        self._lacks_numbers = False

    def frame_of(self, message_id: MessageId) -> str | None:
        """The frame to write for this message; None if it was answered meanwhile, or nobody waits for it any more."""
        pending = self._pending.get(message_id)
        return None if pending is None else pending.frame

    def take(self, frame: ServerFrame, repeats: Repeats) -> bool:
        """Whether this frame, which came in the session of `repeats`, is the reply to a request; then it is handled."""
        reply, pending = frame.message, None if frame.id is None else self._pending.get(frame.id)
        if pending is None or not isinstance(reply, Reply):
            return False
        if isinstance(reply, Error) and repeats.takes_over(pending, reply):
            self._void_number(pending)
            self._note_moved()
        else:
            self._reply(self._pending.pop(pending.id), reply)
        return True

    def drop_largest(self) -> bool:
        """The server ended the session over a frame that was too big: refuse the largest, which is never sent again.

        Returns whether there was one.
        """
        if not self._pending:
            return False
        largest = max(self._pending.values(), key=lambda pending: pending.frame_bytes)
        del self._pending[largest.id]
        self._reply(largest, Error("too_large", f"this message takes {largest.frame_bytes} bytes"))
        return True

    def launch(self, pending: Pending) -> None:
        """Send a question, or an encrypted message, now. It is to be forgotten if it has no reply at the session's end.

        Raises:
            Refused: the server would end the session over it.
        """
        pending.check_size(self._frame_bytes)
        self.launch_plain(pending)

    def forget(self, pending: Pending) -> None:
        """Nobody waits for the reply any more."""
        self._pending.pop(pending.id, None)

    def launch_plain(self, pending: Pending) -> None:
        """Send it as it is."""
        self._pending[pending.id] = pending
        if self._repeats is not None:
            self._send(pending, self._repeats)

    def hold(self, to: Address, reason: str | None) -> None:
        """Nothing can be encrypted for this recipient yet, for this reason; or it can now."""
        if self.backlog is not None:
            self.backlog.hold(to, reason)

    def settle(self, pending: Pending, reply: Reply) -> None:
        """The fate of a message that went encrypted, or could not."""
        if self.backlog is not None:
            self.backlog.take(pending, reply, is_encrypted=isinstance(reply, Accepted))

    def _launch(self, pending: Pending) -> None:
        """Send a message that is kept: encrypted, unless its recipient reads nothing encrypted. One with a number was
        sent in the clear before.
        """
        message = pending.message
        encryption = self.encryption if pending.n is None or pending.was_encrypted else None
        if encryption is not None and isinstance(message, Sendable) and encryption.letters.take(pending, message):
            return
        if pending.body is not None:
            self.settle(pending, CANNOT_READ)
        else:
            self.launch_plain(pending)

    def _send(self, pending: Pending, repeats: Repeats) -> None:
        try:
            pending.check_size(self._frame_bytes)
        except Refused as refused:
            # The server would close every session over it. It may have taken larger frames before.
            self._reply(self._pending.pop(pending.id), Error(refused.code, refused.detail))
            return
        if self.write_queue is None or not pending.is_ordered:
            repeats.send(pending)
        elif self.numbers is None or not pending.is_numbered:
            # Behind the messages that are being kept: one order holds for all of them.
            self.write_queue.put(None, partial(self._send_kept, pending, repeats, None))
        elif self.numbers.is_valid(pending.given):
            self._send_kept(pending, repeats, pending.given, None)
        else:
            self._send_numbered(pending, repeats, self.write_queue)

    def _reply(self, pending: Pending, reply: Reply) -> None:
        if self.numbers is not None:
            self.numbers.answered(pending.given)
        if self._lacks_numbers:
            self._send_rest()
        self._calls.answered(pending.message, reply)
        if pending.is_kept and self.backlog is not None:
            self.backlog.take(pending, reply)
            return
        if pending.letter is not None and isinstance(reply, Error):
            self._void_number(pending)
        pending.answer(reply)

    def _note_moved(self) -> None:
        if self.backlog is not None:
            self.backlog.note_moved()

    # --- numbers -----------------------------------------------------------------------------------------------------

    def _take_answers(self, numbers: Numbers, welcome: AuthOk) -> None:
        """Answer the messages that had no answer when the last session ended, as far as `welcome` does."""
        settled = numbers.begin(welcome)
        letters = [] if self.encryption is None else self.encryption.letters.all()
        unanswered = [*self._pending.values(), *letters]
        for pending in unanswered:
            code = settled.refused.get(pending.n or 0)
            if not settled.has(pending.n):
                pending.void_number()
            elif code is None:
                self._settled(pending, Accepted(welcome.server_time or 0, duplicate=True))
            elif is_retryable(code) or code == "conflict":
                self._void_number(pending)
            else:
                self._settled(pending, Error(code))

    def _settled(self, pending: Pending, reply: Accepted | Error) -> None:
        if pending.id in self._pending:
            self._reply(self._pending.pop(pending.id), reply)
        elif self.encryption is not None:
            self.encryption.letters.settle(pending, reply)

    def _void_number(self, pending: Pending) -> None:
        """The message is sent again under another number. Until then it has none: of an old one `auth_ok` does not tell
        any more that it was refused.
        """
        if pending.n is not None and self.write_queue is not None:
            pending.void_number()
            self.write_queue.put(VoidNumber(pending.id), lambda _: None)

    def give_number(self, pending: Pending) -> Given | None:
        """The next number of this session. None: the message gets one later, or is too large to be sent."""
        numbers, repeats, message = self.numbers, self._repeats, pending.message
        if numbers is None or repeats is None or repeats.is_held or pending.is_above(self._frame_bytes):
            return None
        if repeats.is_resting(pending) or pending.body is not None:
            return None
        if isinstance(message, Sendable) and self.encryption is not None and self.encryption.may_encrypt(message.to):
            return None
        given = numbers.give()
        if given is None:
            self._lacks_numbers = True
        return given

    def _send_numbered(self, pending: Pending, repeats: Repeats, write_queue: WriteQueue) -> None:
        """Send it under a new number, once that is kept; later, where it has to wait."""
        given = self.give_number(pending)
        if given is not None:
            pending.given = given
            change = GiveNumber(pending.id, given.n, is_encrypted=pending.letter is not None)
            write_queue.put(change, partial(self._send_kept, pending, repeats, given))

    def _send_kept(self, pending: Pending, repeats: Repeats, given: Given | None, error: ClientError | None) -> None:
        """Send a message that is kept, unless its session is over or its number is void."""
        if error is not None or repeats is not self._repeats or pending.id not in self._pending:
            return
        if given is not None and self.numbers is not None:
            if not self.numbers.is_valid(given):
                return
            pending.number(given.n)
        repeats.send(pending)

    def _send_all(self, sent: int | None) -> None:
        """The server takes ordered messages again: all of them go out anew.

        Raises:
            NotTheProtocol: it does not say where the numbers of a device stand.
        """
        if self.numbers is not None:
            if sent is None:
                raise NotTheProtocol("the server accepted `resume` without `sent`")
            self.numbers.go_on(sent)
        for pending in [each for each in self._pending.values() if each.is_ordered]:
            self._send_again(pending)

    def _send_again(self, pending: Pending) -> None:
        if self._repeats is not None and pending.id in self._pending:
            self._send(pending, self._repeats)

    def _send_rest(self) -> None:
        """A number was answered: messages that have none go out, as many as may."""
        self._lacks_numbers = False
        for pending in [*self._pending.values()]:
            if self._lacks_numbers:
                break
            if pending.is_numbered and self.numbers is not None and not self.numbers.is_valid(pending.given):
                self._send_again(pending)
