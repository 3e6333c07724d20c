"""SQLite against memory: whatever happens to both, both tell the same, also after the file was closed and opened."""

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import pytest
import trio
from attrs import evolve
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ironwire.crypto.signing import PublicKey
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import FIRST_PREV, LogEntry, LogOp, SignedEntry
from ironwire.store.contract.operations import (
    Acknowledge,
    AddBlock,
    Append,
    ChangeGroup,
    Forget,
    Logged,
    Operation,
    RefuseNumber,
    Register,
    Remove,
    RemoveBlock,
    Touch,
)
from ironwire.store.contract.records import MailboxId, Number, Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite import mailboxes as sqlite_mailboxes
from ironwire.store.sqlite.store import SqliteStore
from ironwire.wire.messages import ErrorCode
from tests.contract.builders import ANN, BOB, CAT, LAPTOP, PHONE, TABLET, append, change, envelope, logged

CLIENTS = [ANN, BOB, CAT]
GROUPS = [GroupId("#" + digit * 32) for digit in "123"]
PEERS: list[Address] = [*CLIENTS, *GROUPS]
MAILBOXES = range(1, 13)
SMALL = Quota(
    mailbox_envelopes=6,
    mailbox_bytes=800,
    devices_per_client=2,
    groups_per_client=2,
    blocks_per_client=1,
    lost_groups=1,
)

clients = st.sampled_from(CLIENTS)
devices = st.sampled_from([PHONE, LAPTOP, TABLET])
keys = st.sampled_from([bytes([number]) * 32 for number in range(1, 5)])
times = st.integers(0, 30)
mailboxes = st.sampled_from(MAILBOXES).map(MailboxId)
message_ids = st.sampled_from("123").map(MessageId)
groups = st.sampled_from(GROUPS)
lanes = st.sampled_from([None, None, "this session", "that session"])


@st.composite
def numbers(draw: st.DrawFn) -> Number:
    """Mostly of a mailbox that there is, in its newest session, and often the next one."""
    mailbox = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4]).map(MailboxId) | mailboxes)
    return Number(mailbox, draw(st.sampled_from([1, 1, 1, 2])), draw(st.sampled_from([1, 1, 2, 2, 3, 4])))


def forget_id(client: ClientId, device: DeviceId | None, message_id: MessageId) -> Forget:
    return Forget(envelope(client, BOB, device=device, id=message_id))


@st.composite
def appends(draw: st.DrawFn) -> Append:
    sent = envelope(
        draw(clients),
        draw(clients | groups),
        draw(st.sampled_from(["", "hello", "x" * 150])),
        device=draw(st.none() | devices),
        id=draw(st.none() | message_ids),
        ts=draw(times),
    )
    flags = {name: draw(st.booleans()) for name in ("is_live", "is_archived")}
    named = draw(st.just([]) | st.lists(st.tuples(clients, devices), max_size=3, unique=True))
    made = evolve(append(sent, *named, **flags), lane=draw(lanes))
    return made if draw(st.booleans()) else evolve(made, digest=b"", number=draw(numbers()))


@st.composite
def changes(draw: st.DrawFn) -> ChangeGroup:
    changed = change(
        draw(groups),
        draw(st.integers(0, 4)),
        draw(st.dictionaries(clients, st.sampled_from(["admin", "member"]))),
        by=draw(clients),
        device=draw(st.none() | devices),
        id=draw(st.none() | message_ids),
        ts=draw(times),
        name=draw(st.none() | st.just("club")),
        asked=draw(st.sampled_from([b"this", b"that"])),
    )
    return evolve(changed, lane=draw(lanes))


operations = st.one_of(
    appends(),
    appends(),
    changes(),
    changes(),
    st.builds(Register, clients, devices, times, st.none() | keys),
    st.builds(Acknowledge, mailboxes, st.integers(0, 20), st.none() | st.integers(1, 3)),
    st.builds(Touch, mailboxes, times),
    st.builds(Remove, clients, devices, st.none() | st.integers(1, 3)),
    st.builds(RefuseNumber, numbers(), st.sampled_from(get_args(ErrorCode)), lanes),
    st.builds(forget_id, clients, st.none() | devices, message_ids),
    st.builds(Forget, st.builds(attrgetter("envelope"), appends()), numbers()),
    st.builds(AddBlock, clients, clients),
    st.builds(RemoveBlock, clients, clients),
)


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bounds = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ironwire.db"
        self.memory = MemoryStore(SMALL)
        self.sqlite = SqliteStore(self.path, SMALL)
        self.logs = {client: DeviceLog(PublicKey(bytes.fromhex(client))) for client in CLIENTS}
        trio.run(self.sqlite.open)

    def teardown(self) -> None:
        trio.run(self.sqlite.close)
        self.folder.cleanup()
        self.bounds.undo()

    def both(self, method: str, *args: object, **kwargs: object) -> Any:
        """Ask both stores the same; the answers have to be equal."""
        ours, theirs = (
            trio.run(partial(getattr(store, method), *args, **kwargs)) for store in (self.sqlite, self.memory)
        )
        assert ours == theirs
        return ours

    @initialize(heavy=st.sampled_from([1, 5, 20, 1_000]), young=st.sampled_from([0, 1, 2]))
    def begin_with_devices(self, heavy: int, young: int) -> None:
        self.bounds.setattr(sqlite_mailboxes, "HIGH_WATERMARK", heavy)
        self.bounds.setattr(sqlite_mailboxes, "LOW_WATERMARK", heavy // 2)
        self.bounds.setattr(sqlite_mailboxes, "YOUNG_ROWS", young)
        self.both("apply", [Register(client, device, 20) for client in (ANN, BOB) for device in (PHONE, LAPTOP)])
        self.both("apply", [change(GROUPS[0], 0, {ANN: "admin", BOB: "member"})])

    @rule(batch=st.lists(operations, min_size=1, max_size=12))
    def apply(self, batch: Sequence[Operation]) -> None:
        self.both("apply", batch)

    @rule(
        client=clients,
        op=st.sampled_from(LogOp),
        named=st.sets(keys, min_size=1, max_size=3),
        place=st.sampled_from(["next", "next", "next", "before", "elsewhere"]),
        batch=st.lists(operations, max_size=4),
    )
    def change_a_device_log(
        self, client: ClientId, op: LogOp, named: set[bytes], place: str, batch: list[Operation]
    ) -> None:
        """The entry that comes next, allowed or not; the one before again; or one behind an entry that nobody knows."""
        log = self.logs[client]
        chosen = sorted(named) if op is LogOp.SNAPSHOT else sorted(named)[:1]
        prev = b"?" * 32 if place == "elsewhere" else FIRST_PREV if log.head is None else log.head.hash
        devices = tuple(map(PublicKey, chosen))
        entry = SignedEntry(LogEntry(log.client, log.next_index, prev, op, False, 20, devices), bytes(64))
        if place == "before" and log.entries:
            entry = log.entries[-1]
        (result, *_) = self.both("apply", [logged(entry), *batch])
        if isinstance(result, Logged):
            self.logs[client] = log.append(entry)

    @rule(before_ms=times, archived_before_ms=times)
    def expire(self, before_ms: int, archived_before_ms: int) -> None:
        self.both("expire", before_ms=before_ms, archived_before_ms=archived_before_ms)

    @rule()
    def scrub(self) -> None:
        self.both("scrub")

    @rule()
    def settle(self) -> None:
        self.both("checkpoint")

    @rule()
    def a_crash_leaves_all_of_it(self) -> None:
        """What is in the files at any time is as good as what a store has closed."""
        crashed = Path(self.folder.name) / "crashed"
        shutil.copytree(self.folder.name, crashed, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        after_crash = SqliteStore(crashed / "ironwire.db", SMALL)
        trio.run(after_crash.open)
        assert trio.run(told, after_crash) == trio.run(told, self.memory)
        trio.run(after_crash.close)
        shutil.rmtree(crashed)

    @rule()
    def reopen(self) -> None:
        trio.run(self.sqlite.close)
        self.sqlite = SqliteStore(self.path, SMALL)
        trio.run(self.sqlite.open)

    @invariant()
    def both_tell_the_same(self) -> None:
        assert trio.run(told, self.sqlite) == trio.run(told, self.memory)

    @invariant()
    def no_row_stays_that_nobody_needs(self) -> None:
        """What the counters in the file say is what its rows say, and a body is there exactly while it is needed."""
        look = self.sqlite._database.lookups.execute
        wrong = """
            SELECT id FROM envelope
            WHERE owed <> (SELECT count(*) FROM entry WHERE envelope = envelope.id)
               OR payload IS NULL OR (owed = 0 AND is_archived = 0)"""
        assert look(wrong).fetchall() == []
        assert look("SELECT mailbox FROM entry WHERE mailbox NOT IN (SELECT id FROM mailbox)").fetchall() == []
        assert look("SELECT mailbox FROM lost_change WHERE mailbox NOT IN (SELECT id FROM mailbox)").fetchall() == []
        assert look("SELECT mailbox FROM lost_change JOIN mailbox ON id = mailbox WHERE last <= acked").fetchall() == []
        assert look("SELECT id FROM roster WHERE id NOT IN (SELECT roster FROM member)").fetchall() == []
        assert look("SELECT roster FROM member WHERE roster NOT IN (SELECT id FROM roster)").fetchall() == []


async def told(store: Store) -> dict[str, Any]:
    """Everything that can be read from a store, in pages of three."""
    statistics = store.statistics()
    answers: dict[str, Any] = {
        "depth": (statistics.mailboxes, statistics.waiting_envelopes, statistics.waiting_bytes),
    }
    for client in CLIENTS:
        answers[f"has {client}"] = store.glance.mailbox_count(client)
        answers[f"mailboxes of {client}"] = list(await store.mailboxes_of(client))
        answers[f"groups of {client}"] = list(await store.groups_of(client))
        answers[f"log of {client}"] = await store.device_log(client, first=1, limit=99)
        answers[f"blocks of {client}"] = await store.blocks_of(client)
        assert store.glance.blocks_of(client) == answers[f"blocks of {client}"]
        for peer in PEERS:
            history, before = [], None
            while page := await store.read_history(client, peer, before=before, limit=3):
                history += [archived.envelope for archived in page]
                before = page[-1].number
            answers[f"history {client} {peer}"] = history
    for group in GROUPS:
        answers[f"group {group}"] = await store.group(group)
        assert store.glance.group(group) == answers[f"group {group}"]
    for mailbox in MAILBOXES:
        entries, after = [], 0
        while entry_page := await store.read(MailboxId(mailbox), after=after, limit=3):
            entries += entry_page
            after = entry_page[-1].seq
        answers[f"entries {mailbox}"] = entries
        answers[f"losses {mailbox}"] = [
            await store.losses(MailboxId(mailbox), seq, seq) for seq in range(1, after + 10)
        ]
    return answers


TestStores = Stores.TestCase
# Steps talk to a disk. Explaining a failure repeats it a hundred times, and the shrunk steps say enough.
TestStores.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, phases=set(Phase) - {Phase.explain}
)
