"""Five clients with up to four devices each, a server, and everything that may go wrong between them: the actions.

`DeliveryModel.quiesce` lets everybody come back, and nothing go wrong any more; `judge.py` says what has to hold then.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio
from attrs import define, field
from trio.testing import MockClock

from ironwire.e2e.conversations.wishes import BeginGeneration, Wish
from ironwire.ids import Address, ClientId, ConversationId, GroupId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.messages import Accepted, GroupCreate, GroupLeave
from tests.e2e.conversations import faults
from tests.e2e.conversations.devices import EngineDevice, EngineWorld
from tests.e2e.conversations.faults import Spoil
from tests.e2e.conversations.lives import ServerLives
from tests.playbook import identity_of

CLIENTS = ("alice", "bob", "carol", "dave", "erin")
NAMES = ("alice.phone", "alice.laptop", "bob.phone", "carol.phone", "carol.laptop", "dave.phone", "erin.phone")
SPARE = ("alice.tablet", "alice.desktop", "bob.tablet", "dave.laptop")
"""Devices that may be linked later."""
FIRST_MEMBERS = ("bob", "carol")
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""No process is killed here, so nothing is gained by waiting for a disk."""
HALF_A_MONTH_SECONDS = 15.5 * 86_400
LEAP_SECONDS = 600
QUIESCENCE_SECONDS = 3 * 86_400
"""A group waits a day for somebody to add a device again, before an admin restarts it."""


@define(eq=False)
class SaidText:
    id: MessageId
    by: EngineDevice
    text: str


@define(eq=False)
class DeliveryModel:
    world: EngineWorld
    server: ServerLives
    group: GroupId = field(init=False)
    said: list[SaidText] = field(factory=list, init=False)
    gone: list[EngineDevice] = field(factory=list, init=False)
    """Devices that were revoked, or have lost their state."""
    _behind: set[str] = field(factory=set, init=False)
    """Clients whose log the server has lost a part of."""

    async def begin(self) -> None:
        entered = await self.world.enter(*NAMES)
        made = await entered[0].ask(GroupCreate([]))
        assert isinstance(made, Accepted)
        assert made.group is not None
        self.group = made.group
        entered[0].want(self.group, BeginGeneration(tuple(map(client_of, FIRST_MEMBERS))))
        await self.world.until(lambda: self._is_begun(self.group) and self.agree(self.group))

    # --- devices -----------------------------------------------------------------------------------------------------

    @property
    def current(self) -> dict[str, EngineDevice]:
        return self.world.devices

    @property
    def ever(self) -> list[EngineDevice]:
        return [*self.current.values(), *self.gone]

    def others_of(self, name: str) -> list[str]:
        """The other devices of the same client."""
        who = name.partition(".")[0]
        return [each for each in self.current if each != name and each.partition(".")[0] == who]

    async def come(self, name: str) -> None:
        """The program runs, and has a session."""
        device = self.current[name]
        if device.is_cut:
            await device.crash()
        if not device.is_up:
            await self._give_back(name)
            await device.enter()

    async def link(self, name: str, life: int = 0) -> None:
        await self._give_back(name)
        await self.world.link(name, life=life)
        await self.come(name)

    async def revoke(self, name: str) -> None:
        device = self.current.pop(name)
        self.gone.append(device)
        await self._give_back(name)
        await self.world.log(name, LogOp.REMOVE, device.key)
        await device.leave()

    async def evict(self, name: str) -> None:
        """The device loses its state: it is revoked, and there is a new one of its name."""
        life = self.current[name].life + 1
        await self.revoke(name)
        await self.link(name, life)

    async def _give_back(self, name: str) -> None:
        who = name.partition(".")[0]
        if who in self._behind:
            self._behind.discard(who)
            await self.world.give_back(who, *self.world.logs[who].entries)

    # --- what people do ----------------------------------------------------------------------------------------------

    def say(self, name: str, where: str) -> None:
        device = self.current[name]
        text = f"{device.name} says {len(self.said)} to {where}"
        self.said.append(SaidText(device.say(self.address(where), text), device, text))

    def want(self, name: str, where: str, wish: Wish) -> None:
        self.current[name].want(self.address(where), wish)

    def restart(self, name: str, where: str) -> None:
        """Begin the next generation, as a device that has given up hope does."""
        device = self.current[name]
        member = device.engine.member_of(self.address(where))
        if member is not None and member.facts.generation:
            others = tuple(client for client in sorted(member.roster) if client != device.client)
            roles = {client: member.roster[client] for client in others}
            device.want(self.address(where), BeginGeneration(others, roles, may_be_missing=where == "group"))

    async def quit(self, name: str) -> None:
        """The client leaves the group: the server knows it first."""
        device = self.current[name]
        if device.is_up and not device.is_cut:
            with trio.move_on_after(5):  # a connection may break, and its answer with it
                await device.ask(GroupLeave(self.group))

    def address(self, where: str) -> Address:
        return self.group if where == "group" else client_of(where)

    def conversation(self, name: str, where: str) -> ConversationId:
        return self.group if where == "group" else pair_id(self.current[name].client, client_of(where))

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def spoil(self, name: str, spoil: Spoil) -> None:
        self.current[name].spoil = spoil

    def fail(self, name: str, after: int, *, is_kept: bool) -> None:
        self.current[name].fails = faults.after_some(after, is_kept)

    async def new_server(self, *, from_backup: bool) -> None:
        here = await self._all_leave()
        await self.server.kill()
        if from_backup:
            await self.server.restore()
            self._behind = set(CLIENTS)
        await self.server.start()
        self.world.stage = self.server.stage
        for device in self.ever:
            device.stage = self.server.stage
        for name in here:
            await self.come(name)

    async def a_month_passes(self) -> None:
        """Whoever is not here is away for 31 days; the others come by once in between."""
        clock = _clock()
        here = await self._all_leave()
        for _ in range(2):
            clock.jump(HALF_A_MONTH_SECONDS)
            await trio.sleep(70)  # the janitor comes once a minute
            for name in here:
                await self.come(name)
            await trio.sleep(5)
            await self._all_leave()
        for name in here:
            await self.come(name)

    async def _all_leave(self) -> list[str]:
        here = [name for name, device in self.current.items() if device.is_up]
        for name in here:
            await self.current[name].leave()
        return here

    # --- the end -----------------------------------------------------------------------------------------------------

    async def quiesce(self) -> None:
        """Everybody comes back, and nothing goes wrong any more."""
        for device in self.current.values():
            device.spoil, device.fails = (lambda frame: frame), faults.never
            device.doubles.clear()
        are_all_here = False
        while not are_all_here:
            for name in self.current:
                await self.come(name)
            await trio.sleep(1)  # a connection may be about to break
            are_all_here = all(device.is_up and not device.is_cut for device in self.current.values())
        await self._settled()
        await self.world.quiet(30)  # for what has just come
        await self._settled()

    async def _settled(self) -> None:
        """Wait: a while as time goes, then in leaps, because a server looks at something every second."""
        clock = _clock()
        with suppress(AssertionError):
            await self.world.until(self.is_settled, seconds=300)
        end = trio.current_time() + QUIESCENCE_SECONDS
        while not self.is_settled() and trio.current_time() < end:
            clock.jump(LEAP_SECONDS)
            await trio.sleep(10)
        assert self.is_settled(), "they do not agree, or somebody waits to be heard"

    def is_settled(self) -> bool:
        is_said = all(not device.disk.outbox for device in self.current.values())
        return is_said and all(map(self.agree, self._conversations()))

    def _conversations(self) -> set[ConversationId]:
        names = {name for device in self.current.values() for name in device.disk.memberships}
        return set(filter(self._is_begun, names))

    def _is_begun(self, conversation: ConversationId) -> bool:
        members = [device.engine.find(conversation) for device in self.current.values()]
        return any(member is not None and member.facts.generation for member in members)

    def agree(self, conversation: ConversationId) -> bool:
        """Whether every device of a client in the roster is in it, in one epoch with one key, and nobody else is."""
        found = {name: device.engine.find(conversation) for name, device in self.current.items()}
        known = {name: member for name, member in found.items() if member is not None and member.standing == "active"}
        states = {
            (member.place, member.group.authenticator(), tuple(sorted(member.roster.items())))
            for member in known.values()
            if member.group is not None
        }
        clients = {client for member in known.values() for client in member.roster}
        inside = {name for name, device in self.current.items() if device.client in clients}
        return len(states) == 1 and inside == set(known)


def _clock() -> MockClock:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    return clock


def client_of(who: str) -> ClientId:
    return identity_of(who).client_id


@asynccontextmanager
async def open_model() -> AsyncIterator[DeliveryModel]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        async with trio.open_nursery() as nursery:
            server = ServerLives(Path(folder), nursery)
            await server.start()
            model = DeliveryModel(EngineWorld(server.stage, nursery), server)
            await model.begin()
            yield model
            await model._all_leave()
            await server.kill()
            nursery.cancel_scope.cancel()
