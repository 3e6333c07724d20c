"""Messages that a device encrypts, from the queue to the server's answer.

    letter ─> engine ─ encrypted ─> sealed: number and used key are kept, then it goes out ─ answered ─> engine
                ^                                                                              │ conflict
                └──────────────────────────────────────────────────────────────────────────────┘

Rules: the number of a letter is that of its sealed form, and is kept before that is sent: after a crash too the next
session tells what became of it. Numbers are given in the order in which the engine encrypts, so nothing overtakes:
where one cannot be had at once, those behind it wait for theirs as well.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from attrs import define, field

from ironwire.client.connection.outgoing import Pending, Reply
from ironwire.client.errors import Refused
from ironwire.client.store.numbers import Given
from ironwire.client.store.records import GiveNumber, Sendable, body_for
from ironwire.client.store.write_queue import WriteQueue
from ironwire.e2e.conversations.effects import Effects, GoesPlain, Report, Request, Sent
from ironwire.e2e.conversations.engine import Engine
from ironwire.ids import Address, MessageId
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.conversations import MlsSend

PLAIN_FILE = Error("forbidden", "the conversation is encrypted: encrypt the file too (`send_sealed_file`)")
CANNOT_READ = Error("forbidden", "the recipient has no device that reads encrypted messages")


@define(eq=False)
class Letters:
    """The letters of one device that have no answer yet."""

    _engine: Engine
    _write_queue: WriteQueue
    _give_number: Callable[[Pending], Given | None]
    _may_encrypt: Callable[[Address], bool]
    _launch_plain: Callable[[Pending], None]
    _settle: Callable[[Pending, Reply], None]
    _carry_out: Callable[[Effects], None]
    _letters: dict[MessageId, Pending] = field(factory=dict, init=False)
    _unnumbered: int = field(default=0, init=False)
    """Sealed letters that are being kept without a number."""

    def take(self, pending: Pending, message: Sendable) -> bool:
        """Whether the message goes encrypted, or is refused because it cannot; then it is a matter of the engine."""
        body = pending.body or body_for(message)
        if body is None and self._engine.is_encrypted(message.to):
            self._settle(pending, PLAIN_FILE)
            return True
        if body is None or (pending.body is None and not self._may_encrypt(message.to)):
            return False
        self._letters[pending.id] = pending
        self._carry_out(self._engine.send(message.to, pending.id, body))
        return True

    def settle(self, letter: Pending, reply: Accepted | Error) -> None:
        """The server tells, as a session begins, what became of one that was sent before."""
        self._carry_out(self._engine.settle(letter.id, reply))

    def report(self, report: Report) -> None:
        """What became of a letter, as the engine says."""
        letter = self._letters.pop(report.id, None) if isinstance(report, Sent | GoesPlain) else None
        if letter is None:
            return
        if isinstance(report, Sent):
            self._settle(letter, report.reply)
        elif letter.body is not None:
            self._settle(letter, CANNOT_READ)
        else:
            self._launch_plain(letter)

    def all(self) -> list[Pending]:
        return [*self._letters.values()]

    def seal(self, requests: Iterable[Request]) -> dict[int, Pending]:
        """Those of the engine's requests that are letters, by their number, to be kept now and sent then: `kept`."""
        sealed = {}
        for request in requests:
            message, message_id = request.ask.question, request.ask.id
            letter = None if message_id is None else self._letters.get(message_id)
            if letter is not None and isinstance(message, MlsSend):
                with suppress(Refused):  # whoever sends it is told so again
                    sealed[request.number] = self._numbered(Pending(letter.id, message, letter=letter))
        return sealed

    def kept(self, sealed: Iterable[Pending]) -> None:
        """They are kept, and are sent now, or given up."""
        self._unnumbered -= sum(pending.given is None for pending in sealed)

    def _numbered(self, sealed: Pending) -> Pending:
        sealed.given = None if self._unnumbered else self._give_number(sealed)
        if sealed.given is None:
            self._unnumbered += 1
        else:
            change = GiveNumber(sealed.id, sealed.given.n, is_encrypted=True)
            self._write_queue.put(change, lambda _: None)
        return sealed
