"""Groups, presence and blocks between clients of this project and its server, in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define

from ironwire.client import (
    Backoff,
    Client,
    DeliveredText,
    Event,
    GroupChanged,
    GroupMember,
    Identity,
    Lost,
    PresenceUpdate,
    Received,
    Refused,
    RelayedTyping,
    ServerAddress,
    connect,
)
from ironwire.ids import DeviceId
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.wire.messages import ServerMessage
from tests.server.in_process import InProcessServer, serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE, BOB, CAROL = (Identity.from_seed(letter * 32) for letter in (b"a", b"b", b"c"))
AT_ONCE = Backoff(base_seconds=0.001)
PHONE = DeviceId("phone")


@define(eq=False)
class World:
    """The server, and a folder for what devices keep."""

    path: Path
    server: InProcessServer

    @asynccontextmanager
    async def client(self, identity: Identity, device: DeviceId | None = None) -> AsyncIterator["Someone"]:
        streams: list[trio.abc.Stream] = []

        async def dial(_: ServerAddress) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            streams.append(self.server.open_stream())
            return streams[-1]

        store = None if device is None else self.path / f"{identity.client_id[:8]}-{device}.db"
        async with connect(ADDRESS, identity, device=device, store=store, backoff=AT_ONCE, dial=dial) as client:
            yield Someone(client, streams)


@define(eq=False)
class Someone:
    """A client, and its connections."""

    client: Client
    streams: list[trio.abc.Stream]

    async def cut(self) -> None:
        await trio.aclose_forcefully(self.streams[-1])

    async def hear(self, *kinds: type[ServerMessage]) -> ServerMessage:
        """The next message of one of these kinds; others are passed over."""
        while True:
            event: Event = await anext(self.client)
            if isinstance(event, Received) and isinstance(event.message, kinds):
                return event.message


@asynccontextmanager
async def open_world(folder: Path, limits: Limits) -> AsyncIterator[World]:
    auth = AuthSettings(origins=(ADDRESS.origin,), require_origin=True)
    settings = Settings(data=folder / "data", auth=auth, limits=limits)
    with trio.fail_after(20):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield World(folder, server)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, Limits()) as world:
        yield world


async def test_a_group_from_its_first_word_to_its_last(world: World) -> None:
    alice_id, bob_id, carol_id = ALICE.client_id, BOB.client_id, CAROL.client_id
    async with world.client(ALICE) as alice, world.client(BOB) as bob, world.client(CAROL) as carol:
        group = await alice.client.groups.create([bob_id], "Friends")
        await alice.client.send_text(group, "hi all")
        accepted = await alice.client.groups.add(group, [carol_id], if_epoch=1)
        assert (accepted.group, accepted.epoch) == (group, 2)
        await carol.client.send_text(group, "hello")
        await alice.client.groups.rename(group, "Best friends")
        await alice.client.groups.remove(group, [carol_id])
        await alice.client.send_text(group, "and now?")

        heard = [await bob.hear(DeliveredText, GroupChanged) for _ in range(7)]
        made = heard[0]
        assert isinstance(made, GroupChanged)
        assert (made.epoch, made.by, made.added, made.name) == (1, alice_id, [alice_id, bob_id], "Friends")
        said = [(each.sender, each.text) for each in heard if isinstance(each, DeliveredText)]
        assert said == [(alice_id, "hi all"), (carol_id, "hello"), (alice_id, "and now?")]
        assert {each.group for each in heard if isinstance(each, DeliveredText | GroupChanged)} == {group}
        changes = [(each.epoch, each.added, each.removed) for each in heard if isinstance(each, GroupChanged)]
        assert changes[1:] == [(2, [carol_id], []), (3, [], []), (4, [], [carol_id])]

        # Who was removed hears that, and nothing after it.
        last = [await carol.hear(DeliveredText, GroupChanged) for _ in range(3)][-1]
        assert isinstance(last, GroupChanged)
        assert last.removed == [carol_id]
        with pytest.raises(Refused, match="not_found"):
            await carol.client.send_text(group, "hello?")
        with pytest.raises(Refused, match="not_found"):
            await carol.client.groups.info(group)

        details = await bob.client.groups.info(group)
        assert (details.epoch, details.name) == (4, "Best friends")
        assert details.members == [GroupMember(alice_id, "admin"), GroupMember(bob_id, "member")]
        (summary,) = await bob.client.groups.all()
        assert (summary.group, summary.role, summary.members) == (group, "member", 2)


async def test_what_may_not_be_changed(world: World) -> None:
    async with world.client(ALICE) as alice, world.client(BOB) as bob:
        group = await alice.client.groups.create([BOB.client_id])
        with pytest.raises(Refused, match="forbidden"):
            await bob.client.groups.rename(group, "Mine")
        with pytest.raises(Refused, match="conflict"):
            await alice.client.groups.leave(group)
        with pytest.raises(Refused, match="conflict"):
            await alice.client.groups.rename(group, "Late", if_epoch=7)
        await alice.client.groups.set_role(group, BOB.client_id, "admin")
        await alice.client.groups.leave(group)
        assert await alice.client.groups.all() == []


async def test_a_group_is_followed_without_asking(world: World) -> None:
    async with world.client(ALICE) as alice, world.client(BOB, PHONE) as bob:
        group = await alice.client.groups.create([BOB.client_id])
        await bob.client.groups.info(group)
        await alice.client.groups.rename(group, "Friends")
        await alice.client.groups.add(group, [CAROL.client_id])
        epochs = [getattr(await bob.hear(GroupChanged), "epoch", 0) for _ in range(3)]
        assert epochs == [1, 2, 3]
        assert await bob.client.groups.info(group) == await alice.client.groups.info(group)


async def test_what_happened_in_a_group_while_a_device_was_away(world: World) -> None:
    async with world.client(BOB, PHONE):
        pass
    async with world.client(ALICE) as alice:
        group = await alice.client.groups.create([BOB.client_id], "Friends")
        for word in ("one", "two"):
            await alice.client.send_text(group, word)
        await alice.client.groups.rename(group, "Foes")
    async with world.client(BOB, PHONE) as bob:
        heard = [await bob.hear(DeliveredText, GroupChanged) for _ in range(4)]
        words = [getattr(each, "text", getattr(each, "name", None)) for each in heard]
        assert words == ["Friends", "one", "two", "Foes"]
        entries = await bob.client.history(group, 10)
        assert [entry.message for entry in entries] == heard


async def test_one_learns_of_a_removal_that_did_not_fit_into_the_mailbox(tmp_path: Path) -> None:
    """And of a change in another group, and of a group that one was added to meanwhile."""
    async with open_world(tmp_path, Limits(mailbox_envelopes=3)) as world:
        async with world.client(BOB, PHONE) as bob:
            async with world.client(ALICE) as alice:
                left = await alice.client.groups.create([BOB.client_id], "Friends")
                kept = await alice.client.groups.create([BOB.client_id], "Foes")
            assert [(await bob.client.groups.info(group)).epoch for group in (left, kept)] == [1, 1]
            await bob.hear(GroupChanged)
            await bob.hear(GroupChanged)
        async with world.client(ALICE) as alice:
            for word in ("one", "two", "three", "four"):
                await alice.client.send_text(kept, word)
            await alice.client.groups.remove(left, [BOB.client_id])
            await alice.client.groups.rename(kept, "Best foes")
            new = await alice.client.groups.create([BOB.client_id], "New")
        async with world.client(BOB, PHONE) as bob:
            assert [getattr(await bob.hear(DeliveredText), "text", "") for _ in range(3)] == ["one", "two", "three"]
            lost = await anext(bob.client)
            assert lost == Lost(6, 9, "full", tuple(sorted([left, kept, new])))
            with pytest.raises(Refused, match="not_found"):
                await bob.client.groups.info(left)
            assert (await bob.client.groups.info(kept)).name == "Best foes"
            assert (await bob.client.groups.info(new)).name == "New"


@pytest.mark.parametrize("device", [None, PHONE], ids=["no device", "device"])
async def test_a_change_is_made_once_however_often_the_connection_breaks(world: World, device: DeviceId | None) -> None:
    async with world.client(ALICE, device) as alice:
        for number in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.client.groups.create, [BOB.client_id], str(number))
                for _ in range(number):
                    await trio.lowlevel.checkpoint()
                await alice.cut()
        groups = await alice.client.groups.all()
        assert sorted(each.name or "" for each in groups) == [str(number) for number in range(10)]


async def test_presence_comes_back_with_the_connection(world: World) -> None:
    async with world.client(ALICE) as alice, world.client(BOB) as bob:
        await bob.client.presence.watch([ALICE.client_id])
        await alice.client.presence.allow([BOB.client_id])
        await alice.client.presence.say("away")
        assert await bob.hear(PresenceUpdate) == PresenceUpdate(ALICE.client_id, "away")
        await alice.cut()
        assert await bob.hear(PresenceUpdate) == PresenceUpdate(ALICE.client_id, "offline")
        assert await bob.hear(PresenceUpdate) == PresenceUpdate(ALICE.client_id, "away")
        await bob.cut()
        assert await bob.hear(PresenceUpdate) == PresenceUpdate(ALICE.client_id, "away")


async def test_typing_reaches_a_person_and_a_group(world: World) -> None:
    async with world.client(ALICE) as alice, world.client(BOB) as bob:
        group = await alice.client.groups.create([BOB.client_id])
        alice.client.presence.typing(BOB.client_id, True)
        assert await bob.hear(RelayedTyping) == RelayedTyping(ALICE.client_id, True)
        alice.client.presence.typing(group, False)
        assert await bob.hear(RelayedTyping) == RelayedTyping(ALICE.client_id, False, group)


async def test_a_blocked_client_is_not_heard_and_does_not_learn_of_it(world: World) -> None:
    async with world.client(ALICE) as alice, world.client(BOB) as bob:
        await bob.client.block(ALICE.client_id)
        assert await bob.client.blocks() == [ALICE.client_id]
        await alice.client.send_text(BOB.client_id, "hello?")
        await bob.client.unblock(ALICE.client_id)
        assert await bob.client.blocks() == []
        await alice.client.send_text(BOB.client_id, "hello!")
        assert await bob.hear(DeliveredText) == DeliveredText(ALICE.client_id, "hello!")
