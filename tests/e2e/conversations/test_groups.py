"""Encrypted groups: who is in them, and who may change that."""

from trio.testing import MockClock

from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.committing import NO_KEY
from ironwire.e2e.conversations.wishes import BeginGeneration, ChangeMembers, GiveRoles, Rename, Wish
from ironwire.ids import ClientId, GroupId, MessageId
from ironwire.wire.messages import Accepted, GroupCreate, GroupLeave
from tests.e2e.conversations.devices import EngineDevice, EngineWorld, open_world
from tests.playbook import identity_of


async def begin_group(world: EngineWorld, admin: EngineDevice, *others: EngineDevice) -> GroupId:
    made = await admin.ask(GroupCreate([]))
    assert isinstance(made, Accepted)
    group = made.group
    assert group is not None
    await change(world, admin, group, BeginGeneration(tuple(sorted({other.client for other in others}))))
    await world.until(lambda: agree(group, admin, *others))
    return group


async def change(world: EngineWorld, device: EngineDevice, group: GroupId, wish: Wish) -> fx.WishDone:
    wanted: MessageId = device.want(group, wish)
    await world.until(lambda: wanted in device.reports)
    done = device.reports[wanted]
    assert isinstance(done, fx.WishDone)
    return done


def agree(group: GroupId, *devices: EngineDevice) -> bool:
    """Whether all are in the same epoch, with the same roster."""
    members = [device.engine.member_of(group) for device in devices]
    known = {
        (member.place, member.group.authenticator(), tuple(sorted(member.roster.items())))
        for member in members
        if member is not None and member.standing == "active" and member.group is not None
    }
    return len(known) == 1 and all(member is not None and member.standing == "active" for member in members)


async def test_a_group_is_encrypted_for_all_devices_of_its_members(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, laptop, bob, carol = await world.enter("alice.phone", "alice.laptop", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        await world.until(lambda: agree(group, alice, laptop, bob, carol))
        bob.say(group, "Hello all")
        await world.until(lambda: alice.texts == laptop.texts == carol.texts == ["Hello all"])
        assert alice.disk.opened[0].conversation == group
        assert alice.disk.opened[0].peer is None
        assert alice.member(group).roster == {alice.client: "admin", bob.client: "member", carol.client: "member"}


async def test_admins_add_and_remove_clients_and_give_roles(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob)
        alice.say(group, "before Carol")
        await world.until(lambda: bob.texts == ["before Carol"])
        assert await change(world, alice, group, ChangeMembers(add=(carol.client,))) == fx.WishDone(_last(alice))
        await world.until(lambda: agree(group, alice, bob, carol))
        assert bob.told(ev.MembersChanged)[-1] == ev.MembersChanged(
            group, alice.client, added=(carol.client,), roles=((carol.client, "member"),)
        )
        bob.say(group, "welcome")
        await world.until(lambda: carol.texts == ["welcome"])
        await change(world, alice, group, GiveRoles({bob.client: "admin"}))
        await world.until(lambda: agree(group, alice, bob, carol))
        assert (await change(world, bob, group, ChangeMembers(remove=(carol.client,)))).refused is None
        await world.until(lambda: agree(group, alice, bob) and carol.member(group).standing == "out")
        alice.say(group, "after Carol")
        await world.until(lambda: bob.texts[-1] == "after Carol")
        assert carol.texts == ["welcome"]
        refused = carol.say(group, "am I still in?")
        await world.until(lambda: refused in carol.reports)
        report = carol.reports[refused]
        assert isinstance(report, fx.Sent)
        assert getattr(report.reply, "msg", None) == "not_found"


def _last(device: EngineDevice) -> MessageId:
    return [report.wish for report in device.reports.values() if isinstance(report, fx.WishDone)][-1]


async def test_a_member_cannot_change_who_is_in_it(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob)
        done = await change(world, bob, group, ChangeMembers(add=(carol.client,)))
        assert done.refused is not None
        assert done.refused.msg == "forbidden"
        assert agree(group, alice, bob)


async def test_two_admins_change_it_at_once_and_both_get_their_way(mock_clock: MockClock) -> None:
    async with open_world() as world:
        names = ("alice.phone", "bob.phone", "carol.phone", "dave.phone")
        alice, bob, carol, dave = await world.enter(*names)
        group = await begin_group(world, alice, bob)
        await change(world, alice, group, GiveRoles({bob.client: "admin"}))
        await world.until(lambda: agree(group, alice, bob))
        alice.want(group, ChangeMembers(add=(carol.client,)))
        bob.want(group, ChangeMembers(add=(dave.client,)))
        await world.until(lambda: agree(group, alice, bob, carol, dave))


async def test_its_name_is_told_to_members_and_to_those_who_join(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob)
        await change(world, alice, group, Rename("Club"))
        await world.until(lambda: bob.engine.member_of(group).facts.name == "Club")  # type: ignore[union-attr]
        await change(world, alice, group, ChangeMembers(add=(carol.client,)))
        await world.until(lambda: getattr(carol.engine.member_of(group), "facts", None) is not None)
        await world.until(lambda: carol.member(group).facts.name == "Club")


async def test_who_leaves_is_taken_out_by_somebody_else(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        assert isinstance(await carol.ask(GroupLeave(group)), Accepted)
        await world.until(lambda: agree(group, alice, bob) and carol.client not in alice.member(group).roster)
        assert carol.member(group).standing == "out"


async def test_where_the_last_admin_has_left_there_is_another(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob, carol = await world.enter("alice.phone", "bob.phone", "carol.phone")
        group = await begin_group(world, alice, bob, carol)
        await change(world, alice, group, GiveRoles({bob.client: "admin"}))
        await change(world, alice, group, GiveRoles({alice.client: "member"}))
        await world.until(lambda: agree(group, alice, bob, carol))
        assert bob.member(group).roster[bob.client] == "admin"


async def test_an_id_that_is_no_key_cannot_be_added(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        nobody = ClientId("00" * 32)
        done = await change(world, alice, group, ChangeMembers(add=(nobody,)))
        assert done.refused is not None
        assert (done.refused.msg, done.refused.detail, done.refused.user) == ("not_found", NO_KEY, nobody)


async def test_who_is_about_to_publish_keys_is_waited_for(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        (carol,) = await world.link("carol.phone")
        group = await begin_group(world, alice, bob)
        refused = (await change(world, alice, group, ChangeMembers(add=(carol.client,)))).refused
        assert refused is not None
        assert (refused.msg, refused.user) == ("user_offline", carol.client)
        wish = alice.want(group, ChangeMembers(add=(carol.client,)))
        await world.quiet(4)
        assert wish not in alice.reports
        await carol.enter()
        await world.until(lambda: agree(group, alice, bob, carol))
        assert alice.reports[wish] == fx.WishDone(wish)


async def test_somebody_without_devices_that_read_it_cannot_be_added(mock_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.enter("alice.phone", "bob.phone")
        group = await begin_group(world, alice, bob)
        eve = identity_of("eve").client_id
        done = await change(world, alice, group, ChangeMembers(add=(eve,)))
        assert done.refused is not None
        assert (done.refused.msg, done.refused.user) == ("not_found", eve)
