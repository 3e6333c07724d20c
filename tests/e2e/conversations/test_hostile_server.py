"""A server that lies: each lie is refused, or shown to the person."""

from collections.abc import Callable

import pytest
from attrs import evolve
from trio.testing import MockClock

from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.wishes import ChangeMembers, RenewKeys
from ironwire.ids import DeviceId, MessageId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.protocol.devices.log_reader import RolledBack
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import DeliveredText, DeviceLogChanged, DeviceLogPage, ServerMessage
from ironwire.wire.messages.conversations import MlsCommit, MlsCommitted, MlsCreate, MlsMessage, MlsTask, MlsWelcome
from ironwire.wire.messages.key_packages import MlsClaim, MlsClaimed, MlsDevice, MlsPackage
from tests.e2e.conversations.devices import EngineDevice, key_of, open_world
from tests.e2e.conversations.forging import FalseKey, Forger, give, package_kept_by, package_of
from tests.e2e.conversations.test_groups import agree, begin_group, change
from tests.playbook import NOW_MS

Lie = Callable[[ServerMessage], ServerMessage | None]


def lying(device: EngineDevice, lie: Lie) -> None:
    """From now on the server gives the device what `lie` makes of each message; None: nothing."""

    def spoil(frame: ServerFrame) -> ServerFrame | None:
        message = lie(frame.message)
        return None if message is None else ServerFrame(message, frame.id, frame.seq)

    device.spoil = spoil


def has_committed(device: EngineDevice) -> bool:
    return any(isinstance(asked, MlsCreate | MlsCommit) for asked in device.written)


# --- messages --------------------------------------------------------------------------------------------------------


async def test_it_writes_in_the_clear_in_the_name_of_somebody(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        await bob.leave()
        give(bob, DeliveredText(alice.client, "send money", NOW_MS, DeviceId("phone")), "m")
        assert bob.told(ev.NotEncrypted) == [ev.NotEncrypted(bob.member(alice.client).id, alice.client, MessageId("m"))]


async def test_it_replays_a_message(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        seen: list[ServerFrame] = []

        def overhear(frame: ServerFrame) -> ServerFrame:
            seen.append(frame)
            return frame

        bob.spoil = overhear
        sent = alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        await bob.leave()
        (frame,) = [frame for frame in seen if isinstance(frame.message, MlsMessage)]
        give(bob, frame.message, sent)
        assert bob.texts == ["one"]
        assert not bob.told(ev.Unreadable), "what was read before is not said to be missing"
        give(bob, frame.message, "under another name")
        assert bob.texts == ["one"]


async def test_it_gives_a_message_the_name_of_another(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        bob.spoil = lambda frame: frame._replace(id=MessageId("x")) if isinstance(frame.message, MlsMessage) else frame
        sent = alice.say(bob.client, "two")
        await world.until(lambda: bool(bob.told(ev.Unreadable)))
        (told,) = bob.told(ev.Unreadable)
        assert isinstance(told, ev.Unreadable)
        assert told.reason == "the message has another id than its envelope"
        assert told.id == sent, "it is asked for by its own name"
        await world.until(lambda: bob.texts == ["one", "two"])
        assert [opened.content.id for opened in bob.disk.opened][-1] == sent


async def test_it_says_that_a_message_is_of_somebody_else(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        lying(
            carol, lambda message: evolve(message, sender=alice.client) if isinstance(message, MlsMessage) else message
        )
        bob.say(group, "I am Bob")
        await world.until(lambda: carol.texts == ["I am Bob"])
        assert carol.disk.opened[0].sender == bob.client, "the leaf says who it was"


# --- commits and tasks -----------------------------------------------------------------------------------------------


async def test_it_changes_what_a_commit_declares(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)

        def lie(message: ServerMessage) -> ServerMessage:
            if not isinstance(message, MlsCommitted) or message.data is None:
                return message
            changed = from_base64url(message.data).replace(b'"op":"update"', b'"op":"rename"')
            return evolve(message, data=to_base64url(changed))

        lying(bob, lie)
        await change(world, alice, group, RenewKeys())
        await world.until(lambda: bool(bob.told(ev.CommitRefused)))


async def test_it_forks_a_group_and_the_epoch_code_shows_it(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        await bob.leave()
        await carol.leave()
        give(bob, Forger(alice, group).commit(Forger(alice, group).declared("update")))
        give(carol, Forger(alice, group).commit(Forger(alice, group).declared("update")))
        assert bob.member(group).place == carol.member(group).place == (1, 2)
        assert bob.engine.epoch_code(group) != carol.engine.epoch_code(group)


async def test_it_asks_for_the_device_of_a_stranger(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, eve = await world.enter("alice.phone", "bob.phone", "eve.phone")
        group = await begin_group(world, alice, bob)
        stranger = MlsDevice(eve.client, eve.key.public_key.raw.hex())
        alice.take(ServerFrame(MlsTask(group, 30_000, add=[stranger]), None, None))
        await world.quiet()
        assert agree(group, alice, bob)
        assert not [asked for asked in alice.written if isinstance(asked, MlsClaim) and asked.devices], "not even asked"


async def test_it_asks_for_a_ghost_device_of_a_member(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        ghost = MlsDevice(bob.client, key_of("bob.ghost").public_key.raw.hex())
        package = to_base64url(package_of("bob.ghost"))

        def lie(message: ServerMessage) -> ServerMessage:
            if not isinstance(message, MlsClaimed):
                return message
            return MlsClaimed([_claimed(bob, ghost.device_key, package)], [], message.logs)

        lying(alice, lie)
        alice.take(ServerFrame(MlsTask(group, 30_000, add=[ghost]), None, None))
        await world.quiet()
        assert alice.member(group).place == (1, 1), "there is no such device in the log"
        commits = [asked for asked in alice.written if isinstance(asked, MlsCommit)]
        assert not commits, "the server itself would have taken it"


@pytest.mark.parametrize("has_group_keys", [False, True])
async def test_it_adds_a_slot_by_a_commit_of_its_own(mock_clock: MockClock, has_group_keys: bool) -> None:
    """In the name of the admin: without a member's keys, and with all that members share, as it may have stolen them.
    In neither case it has the key of Alice's device.
    """
    async with open_world() as world:
        alice, bob, eve = await world.enter("alice.phone", "bob.phone", "eve.phone")
        group = await begin_group(world, alice, bob)
        await bob.leave()
        after = {**bob.member(group).roster, eve.client: "member"}
        server = Forger(alice, group)
        declared = server.declared("members", add=[eve.client], after=after)
        if has_group_keys:
            server.key = FalseKey(eve.key, alice.key.public_key)
        commit = server.commit(declared, add=[package_kept_by(eve)])
        if not has_group_keys:
            commit = server.without_group_keys(commit)
        bob.engine._state.logs._logs[eve.client] = world.logs["eve"]
        give(bob, commit)
        (told,) = bob.told(ev.CommitRefused)
        assert isinstance(told, ev.CommitRefused)
        which = "FramedContentTBS: the signature does not verify" if has_group_keys else "the membership tag is wrong"
        assert told.reason == which
        assert eve.client not in bob.member(group).roster


# --- key packages and logs -------------------------------------------------------------------------------------------


def _claimed(owner: EngineDevice, device_key: str, package: str) -> MlsPackage:
    return MlsPackage(owner.client, device_key, package)


async def test_it_serves_the_key_package_of_somebody_else(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, eve = await world.enter("alice.phone", "bob.phone", "eve.phone")
        alice.engine._state.logs._logs[eve.client] = world.logs["eve"]  # she knows Eve
        package = to_base64url(package_of("eve.phone"))

        def lie(message: ServerMessage) -> ServerMessage:
            if not isinstance(message, MlsClaimed):
                return message
            return MlsClaimed([_claimed(bob, bob.key.public_key.raw.hex(), package)], [], message.logs)

        lying(alice, lie)
        alice.say(bob.client, "for Bob alone")
        await world.until(lambda: bool(alice.told(ev.MessagesHeld)))
        assert (alice.reports, eve.texts) == ({}, [])
        assert alice.member(bob.client).standing == "absent"
        assert not has_committed(alice), "the server itself would have taken it"


async def test_it_serves_the_key_package_of_a_revoked_device(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, phone, laptop = await world.enter("alice.phone", "bob.phone", "bob.laptop")
        package = to_base64url(package_kept_by(laptop))
        stolen = _claimed(phone, laptop.key.public_key.raw.hex(), package)
        await world.log("bob.laptop", LogOp.REMOVE, laptop.key)

        def lie(message: ServerMessage) -> ServerMessage:
            if not isinstance(message, MlsClaimed):
                return message
            return MlsClaimed([*message.packages, stolen], [], message.logs)

        lying(alice, lie)
        alice.say(phone.client, "for those who are left")
        await world.until(lambda: phone.texts == ["for those who are left"])
        assert alice.member(phone.client).index_of(Leaf(laptop.client, laptop.key.public_key.raw)) is None
        assert not alice.told(ev.CommitRefused)


async def test_it_serves_a_key_package_that_is_over(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        package = to_base64url(package_of("bob.phone", days=-1))

        def lie(message: ServerMessage) -> ServerMessage:
            if not isinstance(message, MlsClaimed):
                return message
            return MlsClaimed([_claimed(bob, bob.key.public_key.raw.hex(), package)], [], message.logs)

        lying(alice, lie)
        alice.say(bob.client, "Hello")
        await world.until(lambda: bool(alice.told(ev.MessagesHeld)))
        assert (alice.reports, alice.member(bob.client).standing) == ({}, "absent")
        assert not has_committed(alice), "the server itself would have taken it"


async def test_it_says_that_somebody_has_no_devices_any_more(mock_clock: MockClock) -> None:
    """Otherwise a server could have everything sent in the clear."""
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        lying(
            alice,
            lambda message: MlsClaimed([], [bob.client], message.logs) if isinstance(message, MlsClaimed) else message,
        )
        alice.say(bob.client, "Hello")
        await world.until(lambda: bool(alice.told(ev.MessagesHeld)))
        await world.quiet(600)
        assert (alice.reports, bob.texts) == ({}, [])
        alice.spoil = lambda frame: frame
        await world.until(lambda: bob.texts == ["Hello"])


async def test_it_hides_a_revocation_and_the_members_find_out(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])

        def lie(message: ServerMessage) -> ServerMessage | None:
            if isinstance(message, DeviceLogPage) and message.client == alice.client:
                head = world.logs["alice"].entries[1].head
                kept = [each for each in message.entries if len(each.entry) and _index(each.entry) < 2]
                return DeviceLogPage(message.client, kept, head.index, head.hash.hex())
            return None if isinstance(message, MlsCommitted) else message

        lying(bob, lie)
        await world.log("alice.laptop", LogOp.REMOVE, laptop.key)
        await world.quiet()
        alice.member(bob.client).note(logs_at=0)  # as if a day had passed
        alice.say(bob.client, "two")
        await world.until(lambda: bool(bob.told(ev.LogDisputed)))
        (told,) = bob.told(ev.LogDisputed)
        assert isinstance(told, ev.LogDisputed)
        assert told.client == alice.client


def _index(entry: str) -> int:
    """The index in an entry of a device log: behind the magic and the client."""
    return int.from_bytes(bytes.fromhex(entry)[36:40], "big")


async def test_it_rolls_a_log_back(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        first = world.logs["alice"].entries[0].head

        def lie(message: ServerMessage) -> ServerMessage:
            if isinstance(message, DeviceLogPage) and message.client == alice.client:
                return DeviceLogPage(message.client, message.entries[:1], first.index, first.hash.hex())
            return message

        lying(laptop, lie)
        laptop.take(ServerFrame(DeviceLogChanged(alice.client, 1, "00" * 32), None, laptop.disk.position))
        laptop.do(laptop.engine.end_session())
        await laptop.leave()
        await laptop.enter()
        bob.say(laptop.client, "Hello")
        laptop.take(ServerFrame(DeviceLogChanged(alice.client, 1, "00" * 32), None, laptop.disk.position + 1_000))
        await world.until(lambda: bool(laptop.told(ev.LogDisputed)))
        (told,) = laptop.told(ev.LogDisputed)
        assert isinstance(told, ev.LogDisputed)
        assert isinstance(told.verdict, RolledBack)


async def test_it_keeps_a_welcome_back_and_the_device_asks(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob)
        lying(carol, lambda message: None if isinstance(message, MlsWelcome) else message)
        await change(world, alice, group, ChangeMembers(add=(carol.client,)))
        await world.quiet()
        carol.spoil = lambda frame: frame
        alice.say(group, "Hello, Carol")
        await world.until(lambda: carol.engine.member_of(group) is not None)
        await world.until(lambda: carol.member(group).standing == "active")
