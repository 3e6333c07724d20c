"""Devices that could not read, and can again."""

from collections.abc import Callable

import pytest
from attrs import evolve
from trio.testing import MockClock

from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.wishes import BeginGeneration, GiveRoles, RenewKeys
from ironwire.handlers import conversations
from ironwire.ids import DeviceId
from ironwire.protocol.bucket import Rate
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Accepted, DeviceLogPage, DeviceRemove, DeviceRemoved, Error
from ironwire.wire.messages.conversations import MlsCommitted, MlsGroupPage, MlsMessage, MlsRejoin
from tests.e2e.conversations.devices import open_world
from tests.e2e.conversations.disk import now_ms
from tests.e2e.conversations.forging import Forger, give
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


async def test_where_it_was_asked_too_often_it_is_asked_again_later_and_elsewhere_now(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "REJOINS", Rate(per_second=1 / 200, burst=3))
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        club = await begin_group(world, alice, bob, carol)
        alice.say(bob.client, "Hello")
        await world.until(lambda: bob.texts == ["Hello"])
        for _ in range(3):
            assert isinstance(await bob.ask(MlsRejoin([club])), Accepted)
        await world.quiet(40)  # until that is done
        await bob.leave()
        bob.start_anew()
        for place in (bob.member(club), bob.member(alice.client)):
            place.wedge(now_ms())
        bob.disk.epoch = 0
        await bob.enter()
        await world.until(lambda: bob.member(alice.client).standing == "active")
        assert bob.member(alice.client).place[0] == 1, "added again, and not begun anew"
        assert bob.member(club).standing == "wedged"
        await world.until(lambda: agree(club, alice, bob, carol))


async def test_the_server_does_not_say_at_once_where_things_stand(mock_clock: MockClock) -> None:
    """Until it does, nobody knows whether a group is one in the clear."""
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        (tablet,) = await world.link("bob.tablet")
        await alice.leave()
        await bob.leave()
        tablet.spoil = not_now
        await tablet.enter()
        sent = tablet.say(group, "Hello")
        await world.quiet(10)
        assert tablet.reports == {}
        tablet.spoil = lambda frame: frame
        await alice.enter()
        await world.until(lambda: alice.texts == ["Hello"])
        assert isinstance(tablet.reports[sent], fx.Sent)


async def test_the_server_does_not_say_at_once_which_devices_somebody_has(mock_clock: MockClock) -> None:
    """A welcome is not refused for that."""
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        left = [Error("rate_limited", retry_after_ms=2_000), Error("internal")]

        def later(frame: ServerFrame) -> ServerFrame:
            is_log = isinstance(frame.message, DeviceLogPage) and frame.message.client == alice.client
            return frame._replace(message=left.pop()) if is_log and left else frame

        bob.spoil = later
        alice.say(bob.client, "Hello")
        await world.until(lambda: bob.texts == ["Hello"])
        assert left == []
        assert bob.told(ev.CommitRefused) == []


async def test_a_member_that_is_ahead_of_the_server_is_added_again(mock_clock: MockClock) -> None:
    """It may not begin the group anew, and those who may are where the server is."""
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        await bob.leave()
        bob.start_anew()
        bob.disk.epoch = 0
        bob.spoil = an_epoch_behind
        await bob.enter()
        await world.until(lambda: any(isinstance(each, MlsRejoin) for each in bob.written))
        await world.until(lambda: bob.member(group).place > (1, 1) and agree(group, alice, bob))
        bob.say(group, "here again")
        await world.until(lambda: alice.texts == ["here again"])


def an_epoch_behind(frame: ServerFrame) -> ServerFrame:
    if not isinstance(frame.message, MlsGroupPage):
        return frame
    groups = [evolve(each, epoch=each.epoch - 1) for each in frame.message.groups]
    return frame._replace(message=evolve(frame.message, groups=groups))


def not_now(frame: ServerFrame) -> ServerFrame:
    return frame._replace(message=Error("internal")) if isinstance(frame.message, MlsGroupPage) else frame


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


async def test_a_device_that_was_dropped_while_it_was_away_is_added_again(mock_clock: MockClock) -> None:
    """It had not been seen for a month; it comes back before anybody has removed it, and then somebody does."""
    async with open_world() as world:
        alice, bob, laptop = await world.enter("alice.phone", "bob.phone", "bob.laptop")
        group = await begin_group(world, alice, bob)
        await world.until(lambda: agree(group, alice, bob, laptop))
        await laptop.leave()
        dropped = Forger(alice, group)
        commit = dropped.commit(dropped.declared("devices"), remove=[dropped.index_of(laptop)])
        give(laptop, commit)
        assert laptop.member(group).standing == "wedged"
        await laptop.crash()
        assert laptop.member(group).standing == "wedged", "in the next run of the program too"
        laptop.disk.position -= 1  # the server has not really given it
        await laptop.enter()
        await world.until(lambda: agree(group, alice, bob, laptop))
        alice.say(group, "all of you")
        await world.until(lambda: laptop.texts == ["all of you"])


async def test_a_device_that_comes_back_after_a_month_stays_in_its_groups(mock_clock: MockClock) -> None:
    """Nobody was there to remove it meanwhile, and nobody does it now."""
    async with open_world() as world:
        alice, bob, laptop = await world.enter("alice.phone", "bob.phone", "bob.laptop")
        group = await begin_group(world, alice, bob)
        await world.until(lambda: agree(group, alice, bob, laptop))
        await alice.leave()
        assert isinstance(await bob.ask(DeviceRemove(DeviceId("laptop"))), DeviceRemoved)
        await laptop.leave()
        await bob.leave()
        await laptop.enter()
        await bob.enter()
        await alice.enter()
        await world.quiet(90)
        assert agree(group, alice, bob, laptop)
        assert not laptop.told(ev.MembersChanged)
        assert not alice.told(ev.DevicesChanged)


async def test_a_device_comes_into_a_restarted_group_by_another_of_its_client(mock_clock: MockClock) -> None:
    """The restart left it out, and who adds it is no admin: that one has seen that an admin has restarted the group."""
    async with open_world() as world:
        alice, bob, laptop = await world.enter("alice.phone", "bob.phone", "bob.laptop")
        group = await begin_group(world, alice, bob)
        await world.until(lambda: agree(group, alice, bob, laptop))
        await laptop.leave()
        assert isinstance(await bob.ask(DeviceRemove(DeviceId("laptop"))), DeviceRemoved)
        await change(world, alice, group, BeginGeneration((bob.client,), may_be_missing=True))
        await world.until(lambda: alice.member(group).place[0] == bob.member(group).place[0] == 2)
        assert bob.member(group).roster[bob.client] == "member"
        await laptop.enter()
        await world.until(lambda: agree(group, alice, bob, laptop))
        assert not laptop.told(ev.CommitRefused)
