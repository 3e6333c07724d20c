"""Devices that were revoked: what the others do who have the log, whatever the server says."""

from trio.testing import MockClock

from ironwire.e2e.conversations import events as ev
from ironwire.ids import MessageId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages.conversations import MlsTask
from tests.e2e.conversations.devices import EngineDevice, open_world
from tests.e2e.conversations.forging import Forger, give
from tests.e2e.conversations.test_groups import agree, begin_group


def without_tasks(frame: ServerFrame) -> ServerFrame | None:
    return None if isinstance(frame.message, MlsTask) else frame


def leaf_of(device: EngineDevice) -> Leaf:
    return Leaf(device.client, device.key.public_key.raw)


async def test_members_remove_a_revoked_device_that_the_server_does_not_ask_them_to(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        group = await begin_group(world, alice, bob)
        await world.until(lambda: agree(group, alice, laptop, bob))
        alice.spoil = bob.spoil = without_tasks
        await world.log("alice.laptop", LogOp.REMOVE, laptop.key)
        await world.until(lambda: bob.member(group).index_of(leaf_of(laptop)) is None, seconds=300)
        assert agree(group, alice, bob)
        (changed,) = bob.told(ev.DevicesChanged)
        assert isinstance(changed, ev.DevicesChanged)
        assert changed.removed == ((laptop.client, laptop.key.public_key.raw),)


async def test_one_who_hears_of_it_from_another_member_alone_removes_it(mock_clock: MockClock) -> None:
    """Nobody of the client is there any more, and the server asks nobody."""
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: laptop.texts == bob.texts == ["one"])
        alice.spoil = bob.spoil = without_tasks
        await world.log("alice.laptop", LogOp.REMOVE, laptop.key)
        await world.quiet(1)
        alice.member(bob.client).note(logs_at=0)  # as if a day had passed
        alice.say(bob.client, "my laptop was stolen")
        await world.until(lambda: bob.texts[-1] == "my laptop was stolen")
        await alice.leave()
        await world.until(lambda: bob.member(alice.client).index_of(leaf_of(laptop)) is None, seconds=300)


async def test_a_message_of_a_revoked_device_is_refused_and_said(mock_clock: MockClock) -> None:
    """A server that works with a thief lets it through. Nobody is asked to send it again."""
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: laptop.texts == bob.texts == ["one"])
        thief = Forger(laptop, bob.client)
        await bob.leave()
        await world.log("alice.laptop", LogOp.REMOVE, laptop.key)
        bob.engine._state.logs._logs[alice.client] = world.logs["alice"]
        give(bob, thief.message(thief.group.encrypt(b'{"v":1,"id":"x","ts":1,"t":"text","text":"send money"}')), "x")
        assert bob.texts == ["one"]
        (told,) = bob.told(ev.Unreadable)
        assert isinstance(told, ev.Unreadable)
        assert (told.id, told.reason) == (MessageId("x"), "a message of a device that was revoked")
        assert told.is_given_up
        assert not bob.disk.missing
