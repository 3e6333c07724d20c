"""A device comes, goes, is replaced and is removed, while texts for it and its acks are committed: every session of it
gets what its mailbox holds exactly once, in order, without a hole, and nothing before its welcome.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Outbox
from ironwire.handlers.devices import REMOVED
from ironwire.protocol.auth import Principal
from ironwire.store.contract.operations import Append, Appended
from ironwire.store.contract.records import Mailbox, MailboxId
from ironwire.wire.messages import Text
from tests.delivery.stepped import Commits, SteppedMemory, SteppedSqlite
from tests.house import ALICE, BOB, PHONE, Rooms

WELCOME = b'{"type":"auth_ok"}'


@frozen
class Say:
    """A text for Bob's phone, which may wait for its commit."""


@frozen
class Come:
    """A new session of Bob's phone is attached, and asks for its registration."""


@frozen
class Leave:
    """One of the sessions ends, whatever it waits for."""

    which: int


@frozen
class Ack:
    """One of the sessions acknowledges all that it got, or less."""

    which: int
    less: int


@frozen
class Remove:
    """Bob's phone is removed; its next registration makes another mailbox."""


@frozen
class Commit:
    """Let some batches commit, one directly after the other."""

    count: int


Step = Say | Come | Leave | Ack | Remove | Commit

some = st.integers(0, 3)
commits = st.builds(Commit, st.sampled_from([1, 1, 2]))
steps = st.one_of(
    st.builds(Say),
    st.builds(Say),
    st.builds(Come),
    st.builds(Leave, some),
    st.builds(Ack, some, some),
    commits,
    commits,
    commits | st.builds(Remove),
)
handovers = st.builds(
    lambda less, leaves: [Say(), Commit(1), Come(), Ack(1, less), *leaves, Say(), Commit(2)],
    st.integers(0, 1),
    st.sampled_from([[], [Leave(1)]]),
)
"""A session acknowledges, and perhaps leaves, while the next one waits for its registration."""
scripts = st.lists(steps.map(lambda step: [step]) | handovers, min_size=5, max_size=30).map(
    lambda parts: [step for part in parts for step in part]
)


@define(eq=False)
class Visit:
    """One session of the device, from its attachment to its end."""

    rooms: Rooms
    acked: dict[MailboxId, int]
    """By each mailbox, how much any session has acknowledged."""
    scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    outbox: Outbox = field(init=False)
    endpoint: Endpoint = field(init=False)
    mailbox: MailboxId | None = field(init=False, default=None)
    """None: it was never opened."""
    acked_before: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(most_frames=1_000, most_bytes=1_000_000, ring=lambda: None)
        pump = self.rooms.delivery.pump(self.outbox)
        self.endpoint = Endpoint(Principal(BOB, PHONE), self.outbox, pump)

    async def run(self) -> None:
        with self.scope, self.rooms.hub.attached(self.endpoint):
            assert isinstance(await self.rooms.delivery.register(self.endpoint, self._opened), Mailbox)
            async with trio.open_nursery() as nursery:
                assert self.endpoint.pump is not None
                self.endpoint.pump.begin(partial(nursery.start_soon, self.endpoint.pump.run))
                await trio.sleep_forever()

    def _opened(self, mailbox: Mailbox) -> None:
        if self.rooms.hub.open(self.endpoint):
            self.mailbox = mailbox.id
            self.acked_before = self.acked.get(mailbox.id, 0)
            self.outbox.put(WELCOME)

    @property
    def is_open(self) -> bool:
        return self.mailbox is not None and self.endpoint in self.rooms.hub.sessions_of(BOB)


@define
class Play:
    rooms: Rooms
    store: SteppedMemory | SteppedSqlite
    commits: Commits[None]
    visits: list[Visit] = field(init=False, factory=list)
    sent: dict[Visit, list[bytes]] = field(init=False, factory=dict)
    acked: dict[MailboxId, int] = field(init=False, factory=dict)
    said: int = field(init=False, default=0)

    async def run(self, script: Sequence[Step]) -> None:
        """Take every step, and let everything commit that waits in the end."""
        sender = self.rooms.seat(ALICE)
        for step in [*script, Come()]:
            match step:
                case Say():
                    self.said += 1
                    self.rooms.delivery.envelopes.submit(sender, Text(BOB, str(self.said)), None)
                case Come():
                    visit = Visit(self.rooms, self.acked)
                    self.visits.append(visit)
                    self.rooms.nursery.start_soon(visit.run)
                case Leave(which):
                    self._visit(which).scope.cancel()
                case Ack(which, less):
                    self._ack(self._visit(which), less)
                case Remove():
                    self.rooms.nursery.start_soon(self.rooms.delivery.remove, BOB, PHONE, self._removed)
                case Commit(count):
                    await self.commits.let(count)
            if not isinstance(step, Say):
                await self._rest()
        while self.commits.are_asked_for:
            await self.commits.let()
            await self._rest()

    def seqs(self, visit: Visit) -> list[int]:
        """The numbers that the session was sent, after its welcome."""
        self.sent[visit] = [*self.sent.get(visit, []), *visit.outbox.take()]
        frames = [json.loads(frame) for frame in self.sent[visit]]
        assert [frame["type"] for frame in frames[:1]] == ([] if visit.mailbox is None else ["auth_ok"])
        kinds = {frame["type"] for frame in frames[1:]}
        assert kinds <= {"text", "caught_up"}, "nothing is lost"
        return [frame["seq"] for frame in frames if frame["type"] == "text"]

    def _removed(self) -> None:
        """Bob's phone has lost its mailbox: its session ends, as the handler of devices has it."""
        session = self.rooms.hub.device_session(BOB, PHONE)
        if session is not None:
            session.outbox.close(REMOVED)

    async def _rest(self) -> None:
        """Wait until nothing more happens without a commit, in the thread that reads pages too."""
        for _ in range(2):
            await wait_all_tasks_blocked()
            await self.store.read(MailboxId(0), after=0, limit=1)

    def _visit(self, which: int) -> Visit:
        """One of the latest."""
        return self.visits[-1 - which % len(self.visits)] if self.visits else Visit(self.rooms, self.acked)

    def _ack(self, visit: Visit, less: int) -> None:
        seqs = self.seqs(visit)[: -less or None]
        if seqs and visit.is_open and visit.mailbox is not None:
            self.rooms.delivery.ack(visit.endpoint, seqs[-1], None)
            self.acked[visit.mailbox] = max(seqs[-1], self.acked.get(visit.mailbox, 0))


async def check(store: SteppedMemory | SteppedSqlite, commits: Commits[None], script: Sequence[Step]) -> None:
    await store.open()
    async with trio.open_nursery() as nursery:
        play = Play(Rooms(nursery, store), store, commits)
        await play.run(script)
        held: dict[MailboxId, list[int]] = {}
        for operation, result in filter(None, commits.happened):
            if isinstance(operation, Append) and isinstance(result, Appended):
                for place in result.placed:
                    held.setdefault(place.mailbox, []).append(place.seq)
        for visit in play.visits:
            seqs = play.seqs(visit)
            if visit.mailbox is not None:
                expected = [seq for seq in held.get(visit.mailbox, []) if not seqs or seq >= seqs[0]]
                assert seqs == expected[: len(seqs)], "in order, once, without a hole"
                assert not seqs or seqs[0] <= visit.acked_before + 1, "nothing is left out that no session acknowledged"
        last = play.visits[-1]
        assert last.is_open
        assert last.mailbox is not None
        everything = held.get(last.mailbox, [])
        assert play.seqs(last)[-1:] == everything[-1:] or everything[-1] <= last.acked_before
        commits.let_freely(9)  # acks that wait are committed at the end
        nursery.cancel_scope.cancel()
    await store.close()


@given(scripts)
def test_each_session_gets_its_mailbox_once_and_in_order(script: Sequence[Step]) -> None:
    commits = Commits[None](free=0)
    trio.run(check, SteppedMemory(commits), commits, script, clock=MockClock())


@given(scripts)
@settings(max_examples=15, deadline=None)
def test_each_session_gets_its_mailbox_once_and_in_order_on_the_disk(script: Sequence[Step]) -> None:
    commits = Commits[None](free=0)
    with tempfile.TemporaryDirectory() as folder:
        trio.run(check, SteppedSqlite(Path(folder) / "ironwire.db", commits), commits, script, clock=MockClock())
