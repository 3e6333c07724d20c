"""What a client knows of its groups is what the server knows, whatever comes in between; or it knows that it does not
know.
"""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client.rosters import Rosters
from ironwire.ids import ClientId, GroupId
from ironwire.protocol.group import Change, Changed, Roster, change, create
from ironwire.wire.messages import (
    GroupAdd,
    GroupChanged,
    GroupCreate,
    GroupDetails,
    GroupLeave,
    GroupMember,
    GroupRemove,
    GroupRename,
    GroupRole,
)

GROUP = GroupId("#" + "f0" * 16)
ALICE, BOB, CAROL, DAVE = CLIENTS = [ClientId(letter * 64) for letter in "abcd"]

client = st.sampled_from(CLIENTS)
somebody = st.lists(client, min_size=1, max_size=3, unique=True)
requests = st.one_of(
    st.builds(GroupAdd, st.just(GROUP), somebody),
    st.builds(GroupRemove, st.just(GROUP), somebody),
    st.builds(GroupLeave, st.just(GROUP)),
    st.builds(GroupRole, st.just(GROUP), client, st.sampled_from(["admin", "member"])),
    st.builds(GroupRename, st.just(GROUP), st.sampled_from(["Friends", "Foes"])),
)
wants = st.sampled_from(["ask", "lose a change", "see it twice", "learn late", "hear first", "nothing", "nothing"])


def details(roster: Roster) -> GroupDetails:
    members = [GroupMember(each, role) for each, role in roster.roles.items()]
    return GroupDetails(GROUP, roster.epoch, members, roster.name)


def told(changed: Changed, by: ClientId) -> GroupChanged:
    roles = [GroupMember(each, role) for each, role in changed.roles.items()]
    return GroupChanged(GROUP, changed.roster.epoch, by, changed.added, changed.removed, roles, changed.name)


@given(st.lists(st.tuples(client, requests, wants), max_size=30))
def test_what_is_known_is_true(history: list[tuple[ClientId, Change, str]]) -> None:
    made = create(ALICE, GroupCreate([BOB], "Friends"), most_members=4)
    assert isinstance(made, Changed)
    roster = made.roster
    rosters = Rosters(BOB)
    rosters.follow(told(made, ALICE))
    is_behind = False
    for by, request, want in history:
        before = roster
        outcome = change(roster, by, request, most_members=4)
        if isinstance(outcome, Changed):
            roster = outcome.roster
            is_member = BOB in before.roles or BOB in roster.roles
            if want == "hear first":
                rosters.hear(GROUP, roster.epoch)
                assert rosters.get(GROUP) is None
            if is_member and want != "lose a change":
                rosters.follow(told(outcome, by))
                is_behind = False
            else:
                is_behind = True
            if want == "see it twice" and is_member:
                rosters.follow(told(outcome, by))
            if want == "learn late" and BOB in before.roles:
                rosters.learn(details(before))
        if want == "ask" and BOB in roster.roles:
            rosters.learn(details(roster))
            is_behind = False
            assert rosters.get(GROUP) == details(roster)
        if not is_behind:
            known = rosters.get(GROUP)
            assert known is None or (known == details(roster) and BOB in roster.roles)


def test_every_kind_of_change_is_followed() -> None:
    rosters = Rosters(ALICE)
    roster = Roster(7, None, {ALICE: "admin", BOB: "member"})
    rosters.learn(details(roster))
    for request in (
        GroupAdd(GROUP, [CAROL, DAVE]),
        GroupRename(GROUP, "Friends"),
        GroupRole(GROUP, CAROL, "admin"),
        GroupRemove(GROUP, [BOB]),
        GroupRole(GROUP, CAROL, "member"),
    ):
        outcome = change(roster, ALICE, request, most_members=4)
        assert isinstance(outcome, Changed)
        roster = outcome.roster
        rosters.follow(told(outcome, ALICE))
        assert rosters.get(GROUP) == details(roster)
    members = [GroupMember(ALICE, "admin"), GroupMember(CAROL, "member"), GroupMember(DAVE, "member")]
    assert rosters.get(GROUP) == GroupDetails(GROUP, 12, members, "Friends")


@pytest.mark.parametrize("epoch", [9, 8])
def test_a_change_that_does_not_fit_is_noticed(epoch: int) -> None:
    rosters = Rosters(ALICE)
    known = GroupDetails(GROUP, 7, [GroupMember(ALICE, "admin")])
    rosters.learn(known)
    rosters.follow(GroupChanged(GROUP, 9, ALICE, [BOB], [], []))
    assert rosters.get(GROUP) is None
    rosters.learn(evolve(known, epoch=epoch))
    assert (rosters.get(GROUP) is None) == (epoch < 9)


def test_what_may_have_been_missed_is_asked_for() -> None:
    rosters = Rosters(ALICE)
    known = GroupDetails(GROUP, 7, [GroupMember(ALICE, "admin")])
    rosters.learn(known)
    rosters.forget_all()
    assert rosters.get(GROUP) is None
    rosters.learn(known)
    assert rosters.get(GROUP) == known


def test_who_was_removed_knows_nothing_any_more() -> None:
    rosters = Rosters(BOB)
    known = GroupDetails(GROUP, 7, [GroupMember(ALICE, "admin"), GroupMember(BOB, "member")])
    rosters.learn(known)
    rosters.follow(GroupChanged(GROUP, 8, ALICE, [], [BOB], []))
    rosters.learn(known)  # an answer that the removal has overtaken
    assert rosters.get(GROUP) is None
