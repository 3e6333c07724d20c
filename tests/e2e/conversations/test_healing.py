"""Devices that could not read, and can again."""

from collections.abc import Callable

from attrs import evolve
from trio.testing import MockClock

from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.wishes import GiveRoles, RenewKeys
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages.conversations import MlsCommitted, MlsMessage
from tests.e2e.conversations.devices import open_world
from tests.e2e.conversations.test_groups import agree, begin_group, change


def without_commits(frame: ServerFrame) -> ServerFrame | None:
    return None if isinstance(frame.message, MlsCommitted) else frame


def with_broken_commits(frame: ServerFrame) -> ServerFrame:
    if isinstance(frame.message, MlsCommitted) and frame.message.data:
        data = frame.message.data
        changed = data[:400] + ("A" if data[400] != "A" else "B") + data[401:]
        return ServerFrame(evolve(frame.message, data=changed), frame.id, frame.seq)
    return frame


def broken_once() -> Callable[[ServerFrame], ServerFrame]:
    """The first message comes with another byte."""
    left = [1]

    def spoil(frame: ServerFrame) -> ServerFrame:
        if not isinstance(frame.message, MlsMessage) or not left:
            return frame
        left.pop()
        data = frame.message.data
        changed = data[:-9] + ("A" if data[-9] != "A" else "B") + data[-8:]
        return ServerFrame(evolve(frame.message, data=changed), frame.id, frame.seq)

    return spoil


async def test_a_missed_commit_is_fetched(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        bob.spoil = without_commits
        await change(world, alice, group, GiveRoles({bob.client: "admin"}))
        await change(world, alice, group, RenewKeys())
        await world.quiet()
        bob.spoil = lambda frame: frame
        alice.say(group, "in epoch 3")
        await world.until(lambda: bob.texts == ["in epoch 3"])
        assert agree(group, alice, bob)
        assert not bob.told(ev.Unreadable)


async def test_a_commit_that_does_not_verify_is_refused_and_the_device_added_again(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        bob.spoil = with_broken_commits
        await change(world, alice, group, RenewKeys())
        await world.quiet(0.5)
        (refused,) = bob.told(ev.CommitRefused)
        assert isinstance(refused, ev.CommitRefused)
        assert (refused.by, refused.epoch) == (alice.client, 2)
        bob.spoil = lambda frame: frame
        await world.until(lambda: agree(group, alice, bob, carol))
        carol.say(group, "Bob reads again")
        await world.until(lambda: bob.texts == ["Bob reads again"])


async def test_a_message_that_cannot_be_read_is_sent_again(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        bob.spoil = broken_once()
        alice.say(bob.client, "two")
        await world.until(lambda: bool(bob.told(ev.Unreadable)))
        await world.until(lambda: bob.texts == ["one", "two"])
        assert not bob.disk.missing


async def test_a_pair_that_has_lost_its_state_is_restarted(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        await alice.leave()
        bob.spoil = with_broken_commits
        bob.engine.member_of(alice.client).wedge(0)  # type: ignore[union-attr]
        bob.say(alice.client, "two")
        await world.until(lambda: bob.member(alice.client).place == (2, 1))
        await alice.enter()
        await world.until(lambda: alice.texts == ["two"])
        assert alice.told(ev.Secured)[-1] == ev.Secured(bob.member(alice.client).id, 2, bob.client, restarted=True)


async def test_a_new_device_is_added_to_everything(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == ["one"])
        (tablet,) = await world.enter("bob.tablet")
        await world.until(lambda: agree(group, alice, bob, tablet))
        assert any(isinstance(each, ev.DeviceLinked) for each in bob.events)
        assert (bob.client, tablet.key.public_key.raw) in [
            added
            for each in alice.told(ev.DevicesChanged)
            if isinstance(each, ev.DevicesChanged)
            for added in each.added
        ]
        alice.say(bob.client, "two")
        await world.until(lambda: tablet.texts == ["two"])


async def test_who_has_read_a_message_hears_nothing_when_it_is_sent_again(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, laptop = await world.enter("alice.phone", "bob.phone", "bob.laptop")
        alice.say(bob.client, "one")
        await world.until(lambda: bob.texts == laptop.texts == ["one"])
        bob.spoil = broken_once()
        alice.say(bob.client, "two")
        await world.until(lambda: bob.texts == laptop.texts == ["one", "two"])
        await world.quiet()
        assert not laptop.told(ev.Unreadable)
        assert not laptop.disk.missing
