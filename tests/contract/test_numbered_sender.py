"""A device that numbers what it sends, against the SQLite store: answers are lost, sessions are replaced, the store is
killed and opened again. The law of section 4.1: everything that the device sends is accepted once and in its order, or
the device knows that it was refused.
"""

import shutil
import tempfile
from collections import deque
from operator import attrgetter
from pathlib import Path

import pytest
import trio
from attrs import evolve, frozen
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ironwire.ids import ClientId
from ironwire.store.contract.operations import (
    Acknowledge,
    AlreadySettled,
    Appended,
    Held,
    MailboxFull,
    NumberRefused,
    Operation,
    OutOfTurn,
    RefuseNumber,
    Result,
    SessionOver,
    Undeliverable,
)
from ironwire.store.contract.records import Mailbox, Number, Quota
from ironwire.store.sqlite import mailboxes as sqlite_mailboxes
from ironwire.store.sqlite.store import SqliteStore
from ironwire.wire.messages import ErrorCode
from ironwire.wire.messages.fields import is_retryable
from tests.contract.builders import ANN, BOB, CAT, PHONE, envelope, mailbox_of, numbered, registered, texts

NARROW = Quota(mailbox_envelopes=4, mailbox_bytes=1_000_000, devices_per_client=1)
NOBODY = ClientId("d" * 64)
RECIPIENTS = [BOB, CAT]


@frozen
class Written:
    """A message of the device; `number` is its place in the order of all of them."""

    number: int
    to: ClientId
    refusal: ErrorCode | None
    """With this code the server refuses it before it comes to the store, the first time."""


@frozen
class OnItsWay:
    n: int
    message: Written
    refusal: ErrorCode | None
    """As of the message; or because one before it was refused for now."""


written = st.tuples(
    st.sampled_from([BOB, BOB, CAT, NOBODY]), st.sampled_from([None, None, None, "rate_limited", "invalid"])
)


class NumberedSender(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bounds = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "0" / "ironwire.db"
        self.path.parent.mkdir()
        self.store = SqliteStore(self.path, NARROW)
        trio.run(self.store.open)
        for client in RECIPIENTS:
            trio.run(registered, self.store, client, PHONE)
        self.box = trio.run(registered, self.store, ANN, PHONE)
        self.queue: deque[Written] = deque()
        self.on_its_way: deque[OnItsWay] = deque()
        self.count = 0
        self.accepted: list[int] = []
        self.given_up: set[int] = set()
        self.answers: dict[int, ErrorCode | None] = {}
        """By n: how it was settled, as the device was told."""
        self.delivered: list[tuple[ClientId, int, int]] = []
        """To whom, under which seq, which message."""
        self.former: Mailbox | None = None
        self.is_cut = False

    def teardown(self) -> None:
        trio.run(self.store.close)
        self.folder.cleanup()
        self.bounds.undo()

    @initialize(
        heavy=st.sampled_from([1_000, 1, 5]),
        young=st.sampled_from([0, 2]),
        new=st.lists(written, min_size=3, max_size=12),
    )
    def begin(self, heavy: int, young: int, new: list[tuple[ClientId, ErrorCode | None]]) -> None:
        self.bounds.setattr(sqlite_mailboxes, "HIGH_WATERMARK", heavy)
        self.bounds.setattr(sqlite_mailboxes, "LOW_WATERMARK", heavy // 2)
        self.bounds.setattr(sqlite_mailboxes, "YOUNG_ROWS", young)
        self.write(new)

    # --- the device --------------------------------------------------------------------------------------------------

    @rule(new=st.lists(written, min_size=1, max_size=6))
    def write(self, new: list[tuple[ClientId, ErrorCode | None]]) -> None:
        for to, refusal in new:
            self.count += 1
            self.queue.append(Written(self.count, to, refusal))

    @precondition(lambda self: not self.is_cut)
    @rule(count=st.integers(1, 8), heard=st.none() | st.integers(0, 7), is_killed=st.booleans())
    def send(self, count: int, heard: int | None, is_killed: bool = False) -> None:
        """Send some at once, and hear so many of the answers. Where one is missed, the connection is broken, or the
        server was killed.
        """
        held: ErrorCode | None = None
        while self.queue and len(self.on_its_way) < count:
            message, n = self.queue.popleft(), self.settled + len(self.on_its_way) + 1
            code = held or message.refusal
            held = code if code is not None and is_retryable(code) else None
            self.on_its_way.append(OnItsWay(n, message, code))
        results = self.apply(*map(self.operation, self.on_its_way))
        told = results if heard is None else results[:heard]
        again = [other for result in told if (other := self.learn(self.on_its_way.popleft(), result))]
        self.is_cut = len(self.on_its_way) > 0
        self.repeat(again)
        if self.is_cut and is_killed:
            self.the_store_is_killed()

    @rule()
    def come_back(self) -> None:
        """A new session tells what became of everything that had no answer."""
        self.former = self.box
        self.box = trio.run(registered, self.store, ANN, PHONE)
        told = {n: span.code for span in self.box.refused for n in range(span.first, span.last + 1)}
        assert self.settled <= self.box.sent <= self.settled + len(self.on_its_way)
        again = []
        while self.on_its_way:
            each = self.on_its_way.popleft()
            message = each.message if each.n > self.box.sent else self.note(each, told.get(each.n))
            again += [] if message is None else [message]
        self.is_cut = False
        self.repeat(again)

    @property
    def settled(self) -> int:
        """The highest n that the device knows to be settled."""
        return max(self.answers, default=0)

    def operation(self, each: OnItsWay) -> Operation:
        if each.refusal is not None:
            return RefuseNumber(Number(self.box.id, self.box.session, each.n), each.refusal, lane="here")
        sent = envelope(ANN, each.message.to, str(each.message.number), device=PHONE)
        return numbered(sent, self.box, each.n, lane="here")

    def learn(self, each: OnItsWay, result: Result) -> Written | None:
        """The answer came. Returns the message if it has to be sent again."""
        match result:
            case Appended():
                return self.note(each, None)
            case MailboxFull() | Held():
                return self.note(each, "mailbox_full")
            case Undeliverable():
                return self.note(each, "user_offline")
            case NumberRefused():
                return self.note(each, each.refusal)
            case _:
                raise AssertionError(f"{each} came to {result}")

    def note(self, each: OnItsWay, code: ErrorCode | None) -> Written | None:
        self.answers[each.n] = code
        if code is None:
            self.accepted.append(each.message.number)
        elif is_retryable(code):
            return evolve(each.message, refusal=None)
        else:
            self.given_up.add(each.message.number)
        return None

    def repeat(self, messages: list[Written]) -> None:
        """They go out again, before everything that was written later."""
        self.queue = deque(sorted([*messages, *self.queue], key=attrgetter("number")))

    # --- what else happens -------------------------------------------------------------------------------------------

    @rule()
    def the_store_is_killed(self) -> None:
        """Its files are as they were at that moment; every connection is broken."""
        killed = self.path.parent
        self.path = killed.with_name(str(int(killed.name) + 1)) / "ironwire.db"
        shutil.copytree(killed, self.path.parent, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        trio.run(self.store.close)
        shutil.rmtree(killed)
        self.store = SqliteStore(self.path, NARROW)
        trio.run(self.store.open)
        self.come_back()

    @precondition(lambda self: not self.is_cut)
    @rule(back=st.integers(0, 5))
    def an_old_number_comes_again(self, back: int) -> None:
        n = self.settled - back
        if n > 0:
            sent = numbered(envelope(ANN, BOB, "0", device=PHONE), self.box, n)
            assert self.apply(sent) == [AlreadySettled(self.answers[n])]

    @precondition(lambda self: not self.is_cut)
    @rule(over=st.integers(1, 3))
    def a_hole_is_refused(self, over: int) -> None:
        n = self.settled + 1
        sent = numbered(envelope(ANN, BOB, "0", device=PHONE), self.box, n + over)
        assert self.apply(sent) == [OutOfTurn(n)]

    @precondition(lambda self: self.former is not None)
    @rule(over=st.integers(-2, 2))
    def a_former_session_says_something(self, over: int) -> None:
        assert self.former is not None
        sent = numbered(envelope(ANN, BOB, "0", device=PHONE), self.former, max(1, self.settled + over))
        assert self.apply(sent) == [SessionOver()]

    @rule(client=st.sampled_from(RECIPIENTS))
    def acknowledge(self, client: ClientId) -> None:
        box = trio.run(mailbox_of, self.store, client, PHONE)
        self.apply(Acknowledge(box.id, box.tail))

    @rule()
    def checkpoint(self) -> None:
        trio.run(self.store.checkpoint)

    # --- the law -----------------------------------------------------------------------------------------------------

    def apply(self, *batch: Operation) -> list[Result]:
        results = trio.run(self.store.apply, batch)
        self.look()
        return results

    def look(self) -> None:
        for client in RECIPIENTS:
            seen = max((seq for to, seq, _ in self.delivered if to == client), default=0)
            waiting = trio.run(texts, self.store, trio.run(mailbox_of, self.store, client, PHONE))
            self.delivered += [(client, seq, int(text)) for seq, text in waiting if seq > seen]

    @invariant()
    def accepted_is_what_was_delivered_once_and_in_order(self) -> None:
        for client in RECIPIENTS:
            got = [number for to, _, number in self.delivered if to == client]
            assert got == sorted(set(got))
        assert self.accepted == sorted(set(self.accepted))
        unheard = {number for _, _, number in self.delivered} - set(self.accepted)
        assert unheard <= {each.message.number for each in self.on_its_way}
        assert set(self.accepted) <= {number for _, _, number in self.delivered}

    @rule()
    def everything_arrives(self) -> None:
        self.come_back()
        while self.queue:
            for client in RECIPIENTS:
                self.acknowledge(client)
            self.send(2, None)
        assert {*self.accepted, *self.given_up} == {*range(1, self.count + 1)}


TestNumberedSender = NumberedSender.TestCase
# Steps talk to a disk. Explaining a failure repeats it a hundred times, and the shrunk steps say enough.
TestNumberedSender.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, phases=set(Phase) - {Phase.explain}
)
