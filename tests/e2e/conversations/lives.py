"""A server that dies, starts again, and is put back from an older backup, and what it has accepted meanwhile."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import trio
from attrs import define, field, frozen

from ironwire.ids import ClientId, ConversationId, MessageId
from ironwire.limits import Limits
from ironwire.protocol.conversations.slots import Leaf, Slots, leaves_in
from ironwire.store.backup import make_backup, restore_backup
from ironwire.store.clock import CLOCK
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.survey import DATABASE
from tests.e2e.conversations.disk import now_ms
from tests.playbook import Stage, open_stage
from tests.server.test_device_log import AUTH
from tests.simulation.stores import CrashingStore, VirtualDisk

HALF_A_DAY_SECONDS = 12 * 3_600
LIMITS = Limits(
    registrations_per_hour=10**9,
    attempts_per_minute=10**9,
    connections_per_minute=10**9,
    ping_after_seconds=HALF_A_DAY_SECONDS,
)
"""Everybody comes from one address, again and again; and nobody is asked all the time whether they live."""


@frozen
class AcceptedMessage:
    """An encrypted message that the server has taken: it owes it to these devices. `roster` is of that epoch."""

    conversation: ConversationId
    id: MessageId
    by: Leaf
    ts: int
    owed: frozenset[Leaf]
    roster: frozenset[ClientId]


@define(eq=False)
class ServerLives:
    """One server after the other on the same data, or on data of an earlier time."""

    _folder: Path
    _nursery: trio.Nursery
    _chance: Random = field(factory=lambda: Random(0))
    stage: Stage = field(init=False)
    accepted: list[AcceptedMessage] = field(factory=list, init=False)
    has_backup: bool = field(default=False, init=False)
    _data: Path = field(init=False)
    _restored: int = field(default=0, init=False)
    _store: CrashingStore = field(init=False)
    _places: dict[tuple[ConversationId, int, int], tuple[Slots, frozenset[ClientId]]] = field(factory=dict, init=False)
    _end: trio.Event = field(init=False)
    _ended: trio.Event = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._data = self._folder / "data0"

    async def start(self) -> None:
        """The operator has said that the clock is right, however long there was no server."""
        self._confirm_clock(now_ms() * 10**6)
        self._end, self._ended = trio.Event(), trio.Event()
        self.stage = await self._nursery.start(self._live)

    def _confirm_clock(self, now_ns: int) -> None:
        self._data.mkdir(exist_ok=True)
        clock = self._data / CLOCK
        clock.touch()
        os.utime(clock, ns=(now_ns, now_ns))

    async def _live(self, task_status: "trio.TaskStatus[Stage]") -> None:
        async with open_stage(
            auth=AUTH, limits=LIMITS, now_ms=now_ms, data=self._data, open_store=self._open_store
        ) as stage:
            task_status.started(stage)
            await self._end.wait()
        self._ended.set()

    async def kill(self) -> None:
        """The server ends as if its process were killed. Nobody may have a session."""
        self._end.set()
        await self._ended.wait()

    async def back_up(self) -> None:
        backup = self._folder / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        copied = self._data / "copy"
        await self._store.copy_to(copied)
        make_backup(self._data, copied, backup)
        self.has_backup = True

    async def restore(self) -> None:
        """Another server takes the place of the one that was killed: with the last backup."""
        self._restored += 1
        self._data = self._folder / f"data{self._restored}"
        restore_backup(self._folder / "backup", self._data)
        self._places.clear()

    # --- what it accepts ---------------------------------------------------------------------------------------------

    def _open_store(self, quota: Quota) -> Store:
        store = self._store = CrashingStore(self._data / DATABASE, quota, lambda: VirtualDisk(self._chance))
        apply = store.apply

        async def recorded(batch: Sequence[op.Operation]) -> list[op.Result]:
            for operation in batch:
                self._look_up(operation)
            results = await apply(batch)
            for operation, result in zip(batch, results, strict=True):
                self._note(operation, result)
            return results

        setattr(store, "apply", recorded)  # noqa: B010  # a type checker would not have it assigned
        return store

    def _note(self, operation: op.Operation, result: op.Result) -> None:
        if isinstance(operation, op.AdvanceConversation) and isinstance(result, op.Advanced):
            after = operation.after
            self._places[after.id, after.generation, after.epoch] = after.slots, frozenset(after.roster)
        elif isinstance(operation, op.Append) and isinstance(result, op.Appended):
            audience, envelope = operation.audience, operation.envelope
            if isinstance(audience, op.ToConversation) and envelope.id is not None:
                slots, roster = self._places[audience.conversation, audience.generation, audience.epoch]
                owed = frozenset(leaf for leaf in leaves_in(slots) if leaf != audience.by)
                self.accepted.append(
                    AcceptedMessage(audience.conversation, envelope.id, audience.by, envelope.ts, owed, roster)
                )

    def _look_up(self, operation: op.Operation) -> None:
        """Where a conversation stands that moved there before the backup was made."""
        audience = operation.audience if isinstance(operation, op.Append) else None
        if isinstance(audience, op.ToConversation):
            stands = self._store.glance.conversation(audience.conversation)
            if stands is not None:
                place = (stands.id, stands.generation, stands.epoch)
                self._places.setdefault(place, (stands.slots, frozenset(stands.roster)))
