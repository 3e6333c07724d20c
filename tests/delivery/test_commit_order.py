"""The order of commits decides who gets what, however texts, blocks, devices that are removed and come back, removed
members and other changes of a group interleave.

The oracle here knows nothing of stores: it reads what was committed, in order, and says who has to have heard what.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from attrs import define, field, frozen
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery import committer
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.groups import GroupHandler
from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.protocol.group import Change
from ironwire.store.contract import operations as op
from ironwire.wire.messages import GroupAdd, GroupCreate, GroupLeave, GroupRemove, GroupRename, GroupRole, Text
from tests.delivery.stepped import Commits, SteppedMemory, SteppedSqlite
from tests.house import ALICE, BOB, CAROL, NOW_MS, PHONE, Rooms, taken

LAPTOP = DeviceId("laptop")
DAVE = ClientId("d" * 64)
CLIENTS = [ALICE, BOB, CAROL, DAVE]
CLUB = GroupId("#" + "1" * 32)

Seat = tuple[ClientId, DeviceId | None]
DEVICES: list[tuple[ClientId, DeviceId]] = [(ALICE, PHONE), (ALICE, LAPTOP), (BOB, PHONE)]
SEATS: list[Seat] = [*((client, None) for client in CLIENTS), *DEVICES]
"""Each client has a session without a mailbox, and two of them have devices."""
FREE = len(DEVICES) + 1
"""Commits that need not wait: those that make the devices and the group."""


@frozen
class Say:
    """Submit a text, which may wait for others."""

    by: Seat
    to: ClientId | GroupId


@frozen
class Alter:
    """Ask for a change of the group, which is decided anew whenever another change comes before it."""

    by: Seat
    request: Change


@frozen
class Renew:
    """Remove a device, and register it again, with a mailbox that begins empty."""

    device: tuple[ClientId, DeviceId]


@frozen
class Commit:
    """Let one batch commit."""


@frozen
class Relayed:
    """A text that went from session to session without a commit."""

    by: ClientId
    to: ClientId
    text: str


Step = Say | Alter | Renew | Commit | op.AddBlock | op.RemoveBlock | op.Remove
Happened = tuple[op.Operation, op.Result] | Relayed

clients = st.sampled_from(CLIENTS)
blocks = st.sampled_from([(BOB, ALICE), (ALICE, BOB), (BOB, CAROL), (DAVE, CAROL)])
"""Who blocks whom: few, so that texts meet blocks often."""
says = st.builds(Say, st.sampled_from(SEATS), clients | st.just(CLUB) | st.just(CLUB))
unwanted_says = blocks.flatmap(
    lambda block: st.builds(Say, st.sampled_from([seat for seat in SEATS if seat[0] == block[1]]), st.just(block[0]))
)
seats = st.sampled_from(SEATS)
some_clients = st.lists(clients, min_size=1, max_size=2)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(GroupAdd, st.just(CLUB), some_clients),
    st.builds(GroupRemove, st.just(CLUB), some_clients),
    st.builds(GroupRemove, st.just(CLUB), some_clients),
    st.builds(GroupRole, st.just(CLUB), clients, st.sampled_from(["admin", "member"])),
    st.builds(GroupRename, st.just(CLUB), st.sampled_from(["club", "house"])),
    st.builds(GroupLeave, st.just(CLUB)),
)
scripts = st.lists(
    st.one_of(
        says,
        unwanted_says,
        unwanted_says,
        st.builds(Commit),
        blocks.map(lambda block: op.AddBlock(*block)),
        blocks.map(lambda block: op.RemoveBlock(*block)),
        st.sampled_from(DEVICES).map(lambda device: op.Remove(*device)),
        st.builds(Renew, st.sampled_from(DEVICES)),
        st.builds(Alter, seats, changes),
        st.builds(Alter, seats, changes),
    ),
    min_size=15,
    max_size=50,
)


@define
class Oracle:
    """The texts and the epochs of the group that everybody has to have heard."""

    heard: dict[Seat, list[list[str]]] = field(factory=lambda: {seat: [[]] for seat in SEATS})
    """In each of its sessions: a device that comes back has another."""
    kept: dict[Seat, list[str]] = field(factory=dict)
    """By device, the part that is in its mailbox: nothing was acknowledged. A device that is not in here was removed,
    and hears nothing more.
    """
    registered: set[Seat] = field(factory=set)
    """Devices that have had a session."""
    blocks: set[tuple[ClientId, ClientId]] = field(factory=set)
    members: set[ClientId] = field(factory=set)
    epoch: int = 0

    def see(self, happened: Happened) -> None:
        match happened if isinstance(happened, Relayed) else happened[0]:
            case op.AddBlock(client, blocked):
                self.blocks.add((client, blocked))
            case op.RemoveBlock(client, blocked):
                self.blocks.discard((client, blocked))
            case op.Register(client, device):
                if (client, device) in self.registered:
                    self.heard[client, device].append([])
                self.registered.add((client, device))
                self.kept[client, device] = []
            case op.Remove(client, device):
                self.kept.pop((client, device), None)
            case op.ChangeGroup(expected_epoch=epoch, roles=roles) if epoch == self.epoch:
                self._hear(f"epoch {epoch + 1}", self.members | set(roles))
                self.members = set(roles)
                self.epoch = epoch + 1 if roles else 0
            case Relayed(by, to, text):
                self._hear(text, {to} - self._unreached_by(by))
            case op.Append(envelope):
                self._see_append(envelope.sender, envelope.device, envelope.to, orjson.loads(envelope.payload)["text"])
            case _:
                pass

    def _see_append(self, sender: ClientId, device: DeviceId | None, to: str, text: str) -> None:
        if to == CLUB:
            if sender in self.members:
                self._hear(text, self.members, but={(sender, device)})
            return
        self._hear(text, {ClientId(to)} - self._unreached_by(sender))
        if sender != to:
            self._hear(text, {sender}, but={(sender, None), (sender, device)})

    def _unreached_by(self, sender: ClientId) -> set[ClientId]:
        return {client for client, blocked in self.blocks if blocked == sender}

    def _hear(self, text: str, who: set[ClientId], but: Collection[Seat] = ()) -> None:
        for seat, heard in self.heard.items():
            if seat[0] in who and seat not in but and (seat[1] is None or seat in self.kept):
                heard[-1].append(text)
                self.kept.get(seat, []).append(text)

    def agrees(self, sent: dict[Seat, list[list[str]]]) -> bool:
        """Whether everybody was sent what they have to have heard. A session that has begun in the very batch that
        removes its device may read the mailbox too late: of one that came back, the end may be missing.
        """
        for seat, sessions in self.heard.items():
            for number, (heard, got) in enumerate(zip(sessions, sent[seat], strict=True)):
                is_over = number < len(sessions) - 1 or (seat[1] is not None and seat not in self.kept)
                if got != (heard[: len(got)] if is_over and number else heard):
                    return False
        return True


async def renew(rooms: Rooms, sessions: list[Endpoint], client: ClientId, device: DeviceId) -> None:
    await rooms.delivery.remove(client, device, lambda: None)
    sessions.append(await rooms.seat_again(client, device))


async def play(
    rooms: Rooms,
    groups: GroupHandler,
    commits: Commits[Relayed],
    sessions: dict[Seat, list[Endpoint]],
    script: Sequence[Step],
) -> None:
    """Take every step, and let everything commit that waits in the end."""
    delivery, ask = rooms.delivery, rooms.nursery.start_soon
    renewed = dict.fromkeys(DEVICES, 1)
    for number, step in enumerate(script):
        seats = {seat: endpoints[-1] for seat, endpoints in sessions.items()}
        match step:
            case Say(by, to):
                waiting = delivery.statistics().operations_waiting
                delivery.envelopes.submit(seats[by], Text(to, str(number)), None)
                if delivery.statistics().operations_waiting == waiting:
                    commits.happened.append(Relayed(by[0], ClientId(to), str(number)))
            case Commit():
                await commits.let()
            case Alter(by, request):
                ask(groups.change, seats[by], request, None)
            case op.Remove(client, device):
                ask(delivery.remove, client, device, lambda: None)
            case Renew(device):
                if len(sessions[device]) == renewed[device]:  # none is under way
                    renewed[device] += 1
                    ask(renew, rooms, sessions[device], *device)
            case op.AddBlock(client) | op.RemoveBlock(client):
                ask(delivery.change, client, step)
        if not isinstance(step, Say):
            await wait_all_tasks_blocked()
    await commits.wait()
    while commits.are_asked_for:
        await commits.let()


async def check(store: SteppedMemory | SteppedSqlite, commits: Commits[Relayed], script: Sequence[Step]) -> None:
    await store.open()
    async with trio.open_nursery() as nursery:
        rooms = Rooms(nursery, store)
        groups = GroupHandler(store, rooms.delivery, lambda: NOW_MS, lambda size: b"\x11" * size, most_members=10)
        sessions: dict[Seat, list[Endpoint]] = {seat: [await rooms.seat_device(*seat)] for seat in DEVICES}
        sessions |= {(client, None): [rooms.seat(client)] for client in CLIENTS}
        await groups.change(sessions[ALICE, None][0], GroupCreate([BOB, CAROL]), None)
        await play(rooms, groups, commits, sessions, script)
        sent = {
            seat: [[*filter(None, map(word, taken(endpoint)))] for endpoint in endpoints]
            for seat, endpoints in sessions.items()
        }
        kept = {seat: await kept_for(sessions[seat][-1], store) for seat in DEVICES}
        nursery.cancel_scope.cancel()
    await store.close()
    oracle = Oracle()
    for happened in commits.happened:
        oracle.see(happened)
    assert oracle.agrees(sent), (sent, oracle.heard)
    assert kept == {seat: oracle.kept.get(seat, []) for seat in DEVICES}


async def kept_for(seat: Endpoint, store: SteppedMemory | SteppedSqlite) -> list[str]:
    """The words in the device's mailbox."""
    assert seat.pump is not None
    entries = await store.read(seat.pump.mailbox, after=0, limit=100)
    frames = [{"type": entry.envelope.verb, "payload": orjson.loads(entry.envelope.payload)} for entry in entries]
    return [*filter(None, map(word, frames))]


def word(frame: dict[str, Any]) -> str | None:
    """A frame as the oracle says it; None for what is an answer."""
    match frame:
        case {"type": "text", "payload": {"text": str(text)}}:
            return text
        case {"type": "group_changed", "payload": {"epoch": int(epoch)}}:
            return f"epoch {epoch}"
        case _:
            return None


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """Few texts are more than one batch, so that the fair queue has a say in the order."""
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(committer, "BATCH_COST", 4)
        bounds.setattr(committer, "BUNCH_COST", 2)
        yield


@given(scripts)
def test_what_is_delivered_agrees_with_the_order_of_commits(script: Sequence[Step]) -> None:
    commits = Commits[Relayed](FREE)
    trio.run(check, SteppedMemory(commits), commits, script)


@given(scripts)
@settings(max_examples=15, phases=set(Phase) - {Phase.shrink, Phase.explain})  # each example takes a tenth of a second
def test_what_is_delivered_agrees_with_the_order_of_commits_on_the_disk(script: Sequence[Step]) -> None:
    commits = Commits[Relayed](FREE)
    with tempfile.TemporaryDirectory() as folder:
        trio.run(check, SteppedSqlite(Path(folder) / "ironwire.db", commits), commits, script)
