"""A message is for all devices that its recipients have when it is sent, and for no other."""

from trio.testing import MockClock

from ironwire.e2e.conversations import events as ev
from ironwire.protocol.devices.log_entry import LogOp
from tests.e2e.conversations.devices import key_of, open_world
from tests.e2e.conversations.test_groups import agree, begin_group


async def test_a_device_that_was_linked_while_nobody_was_there_reads_what_is_said_next(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "before")
        await world.until(lambda: bob.texts == ["before"])
        await alice.leave()
        await bob.leave()
        (laptop,) = await world.enter("alice.laptop")
        await laptop.leave()
        bob.say(alice.client, "to both of you")
        await bob.enter()
        await laptop.enter()
        await world.until(lambda: laptop.texts == ["to both of you"])
        assert laptop.told(ev.Unreadable) == []


async def test_a_device_that_was_revoked_while_nobody_was_there_hears_nothing_more(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, laptop, bob = await world.enter("alice.phone", "alice.laptop", "bob.phone")
        alice.say(bob.client, "before")
        await world.until(lambda: bob.texts == laptop.texts == ["before"])
        for device in (alice, laptop, bob):
            await device.leave()
        await world.log("alice.laptop", LogOp.REMOVE, key_of("alice.laptop"))
        bob.say(alice.client, "not for the thief")
        await bob.enter()
        await world.until(lambda: bob.disk.outbox == {})
        assert laptop.key.public_key.raw not in {leaf.device for leaf in bob.member(alice.client).slots if leaf}
        await alice.enter()
        await world.until(lambda: alice.texts == ["not for the thief"])


async def test_a_device_without_key_packages_holds_nobody_up(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        await world.link("alice.laptop")
        await world.quiet()
        bob.say(group, "hello")
        await world.until(lambda: alice.texts == ["hello"])
        (laptop,) = [world.devices["alice.laptop"]]
        await laptop.enter()
        await world.until(lambda: agree(group, alice, laptop, bob))
