"""`protocol/group.py` against its rules: an epoch at a time, never without an admin, never over the limit."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ironwire.ids import ClientId, GroupId, Role
from ironwire.protocol.group import Change, Changed, ChangeRefused, Roster, Unchanged, change, create, expel
from ironwire.wire.messages import GroupAdd, GroupCreate, GroupLeave, GroupRemove, GroupRename, GroupRole

CLUB = GroupId("#" + "0" * 32)
ANN, BOB, CAT, DAN, EVE = CLIENTS = [ClientId(digit * 64) for digit in "abcde"]
MOST = 4

NO_SUCH_GROUP = ChangeRefused("not_found", "no such group")
NOT_ADMIN = ChangeRefused("forbidden", "only admins of the group may change it")
TOO_MANY = ChangeRefused("quota", "a group has at most 4 members")
NO_ADMIN = ChangeRefused("conflict", "the group would have no admin: make another member admin first")


def roster(epoch: int = 7, name: str | None = "club", **roles: Role) -> Roster:
    names = {"ann": ANN, "bob": BOB, "cat": CAT, "dan": DAN}
    return Roster(epoch, name, {names[who]: role for who, role in roles.items()})


# --- each rule -------------------------------------------------------------------------------------------------------


def test_whoever_creates_a_group_is_its_admin_and_its_first_member() -> None:
    made = create(ANN, GroupCreate([BOB, ANN, BOB, CAT], "club"), MOST)
    roles: dict[ClientId, Role] = {ANN: "admin", BOB: "member", CAT: "member"}
    assert made == Changed(Roster(1, "club", roles), [ANN, BOB, CAT], [], roles, "club")
    assert isinstance(made, Changed)
    assert list(made.roster.roles) == [ANN, BOB, CAT]
    assert create(ANN, GroupCreate([]), MOST) == Changed(
        Roster(1, None, {ANN: "admin"}), [ANN], [], {ANN: "admin"}, None
    )
    assert create(ANN, GroupCreate([BOB, CAT, DAN, EVE]), MOST) == TOO_MANY


def test_whoever_is_expelled_leaves_an_admin_behind() -> None:
    gone = expel(roster(ann="admin", bob="member", cat="member"), ANN)
    assert gone == Changed(roster(8, bob="admin", cat="member"), [], [ANN], {BOB: "admin"}, None)
    gone = expel(roster(ann="admin", bob="member", cat="admin"), ANN)
    assert gone == Changed(roster(8, bob="member", cat="admin"), [], [ANN], {}, None)
    gone = expel(roster(ann="admin", bob="member", cat="member"), ANN, heirs=[ANN, CAT, BOB])
    assert gone.roles == {CAT: "admin"}
    assert expel(roster(ann="admin"), ANN) == Changed(roster(8), [], [ANN], {}, None)


@pytest.mark.parametrize(
    "request_",
    [
        GroupAdd(CLUB, [EVE]),
        GroupRemove(CLUB, [ANN]),
        GroupLeave(CLUB),
        GroupRole(CLUB, EVE, "admin"),
        GroupRename(CLUB, "mine", if_epoch=99),
    ],
)
def test_for_who_is_not_a_member_there_is_no_group(request_: Change) -> None:
    assert change(roster(ann="admin"), EVE, request_, MOST) == NO_SUCH_GROUP
    assert change(None, EVE, request_, MOST) == NO_SUCH_GROUP


@pytest.mark.parametrize(
    "request_",
    [
        GroupAdd(CLUB, [EVE], if_epoch=1),
        GroupRemove(CLUB, [BOB]),
        GroupRole(CLUB, BOB, "admin"),
        GroupRename(CLUB, "mine"),
    ],
)
def test_members_change_nothing(request_: Change) -> None:
    assert change(roster(ann="admin", bob="member"), BOB, request_, MOST) == NOT_ADMIN


def test_everyone_may_leave() -> None:
    left = change(roster(ann="admin", bob="member"), BOB, GroupLeave(CLUB), MOST)
    assert left == Changed(roster(8, ann="admin"), [], [BOB], {}, None)


def test_the_last_admin_stays_while_others_are_there() -> None:
    club = roster(ann="admin", bob="member")
    assert change(club, ANN, GroupLeave(CLUB), MOST) == NO_ADMIN
    assert change(club, ANN, GroupRole(CLUB, ANN, "member"), MOST) == NO_ADMIN
    assert change(club, ANN, GroupRemove(CLUB, [ANN]), MOST) == NO_ADMIN
    two = roster(ann="admin", bob="admin")
    assert change(two, ANN, GroupLeave(CLUB), MOST) == Changed(roster(8, bob="admin"), [], [ANN], {}, None)


def test_the_last_members_leaving_ends_the_group() -> None:
    assert change(roster(ann="admin"), ANN, GroupLeave(CLUB), MOST) == Changed(roster(8), [], [ANN], {}, None)
    club = roster(ann="admin", bob="member")
    assert change(club, ANN, GroupRemove(CLUB, [ANN, BOB]), MOST) == Changed(roster(8), [], [ANN, BOB], {}, None)


def test_what_is_so_already_changes_nothing() -> None:
    club = roster(ann="admin", bob="member")
    for request in (
        GroupAdd(CLUB, [BOB, ANN]),
        GroupRemove(CLUB, [EVE]),
        GroupRole(CLUB, BOB, "member"),
        GroupRename(CLUB, "club", if_epoch=7),
    ):
        assert change(club, ANN, request, MOST) == Unchanged(7)


def test_who_is_added_is_a_member_and_comes_last() -> None:
    after = change(roster(bob="admin", ann="admin"), ANN, GroupAdd(CLUB, [CAT, BOB, CAT]), MOST)
    assert after == Changed(roster(8, bob="admin", ann="admin", cat="member"), [CAT], [], {CAT: "member"}, None)
    assert isinstance(after, Changed)
    assert list(after.roster.roles) == [BOB, ANN, CAT]
    assert change(roster(ann="admin", bob="member"), ANN, GroupAdd(CLUB, [CAT, DAN, EVE]), MOST) == TOO_MANY


def test_a_group_over_a_limit_that_was_lowered_can_still_change() -> None:
    club = roster(ann="admin", bob="member", cat="member")
    assert change(club, ANN, GroupAdd(CLUB, [DAN]), 2) == ChangeRefused("quota", "a group has at most 2 members")
    assert isinstance(change(club, ANN, GroupRename(CLUB, "still here"), 2), Changed)


def test_a_role_is_given_to_members_alone() -> None:
    club = roster(ann="admin", bob="member")
    after = change(club, ANN, GroupRole(CLUB, BOB, "admin"), MOST)
    assert after == Changed(roster(8, ann="admin", bob="admin"), [], [], {BOB: "admin"}, None)
    refused = change(club, ANN, GroupRole(CLUB, EVE, "admin"), MOST)
    assert refused == ChangeRefused("not_found", "that client is not a member: add it first")


def test_a_new_name_is_told() -> None:
    after = change(roster(ann="admin"), ANN, GroupRename(CLUB, "guild"), MOST)
    assert after == Changed(roster(8, "guild", ann="admin"), [], [], {}, "guild")


def test_a_change_from_another_epoch_is_a_conflict() -> None:
    club = roster(ann="admin")
    assert isinstance(change(club, ANN, GroupAdd(CLUB, [BOB], if_epoch=7), MOST), Changed)
    for stale in (6, 8):
        refused = change(club, ANN, GroupAdd(CLUB, [BOB], if_epoch=stale), MOST)
        assert refused == ChangeRefused("conflict", "the group is at epoch 7: look at it again")


# --- whatever is asked, by whomever ----------------------------------------------------------------------------------

clients = st.sampled_from(CLIENTS)
several = st.lists(clients, min_size=1, max_size=3)
epochs = st.none() | st.integers(1, 6)
clubs = st.just(CLUB)
changes = st.one_of(
    st.builds(GroupAdd, clubs, several, epochs),
    st.builds(GroupRemove, clubs, several, epochs),
    st.builds(GroupLeave, clubs, epochs),
    st.builds(GroupRole, clubs, clients, st.sampled_from(["admin", "member"]), epochs),
    st.builds(GroupRename, clubs, st.sampled_from(["x", "y"]), epochs),
)


class Club(RuleBasedStateMachine):
    """One group, and beside it what its members believe who know nothing but what they were told."""

    roster: Roster | None = None

    @initialize(by=clients, members=st.lists(clients, max_size=3))
    def make(self, by: ClientId, members: list[ClientId]) -> None:
        made = create(by, GroupCreate(members), MOST)
        assert isinstance(made, Changed)
        self.roster = made.roster
        self.believed = self.follow({}, made)

    @rule(by=clients, request=changes)
    def ask(self, by: ClientId, request: Change) -> None:
        before = self.roster
        outcome = change(before, by, request, MOST)
        if not isinstance(outcome, Changed):
            return
        assert before is not None
        assert before.roles[by] == "admin" or isinstance(request, GroupLeave)
        assert request.if_epoch in (None, before.epoch)
        assert outcome.roster.epoch == before.epoch + 1
        assert (outcome.roster.roles, outcome.roster.name) != (before.roles, before.name)
        assert [client for client in outcome.roster.roles if client in before.roles] == [
            client for client in before.roles if client in outcome.roster.roles
        ]
        self.believed = self.follow(self.believed, outcome)
        self.roster = outcome.roster if outcome.roster.roles else None

    def follow(self, believed: dict[str, Any], told: Changed) -> dict[str, Any]:
        roles = {client: role for client, role in believed.get("roles", {}).items() if client not in told.removed}
        assert not set(told.added) & set(roles)
        assert set(told.added) <= set(told.roles)
        return {"roles": roles | dict(told.roles), "name": told.name or believed.get("name")}

    @invariant()
    def an_admin_is_there_while_anybody_is(self) -> None:
        if self.roster is not None:
            assert "admin" in self.roster.roles.values()
            assert 0 < len(self.roster.roles) <= MOST

    @invariant()
    def who_follows_what_is_told_knows_the_group(self) -> None:
        if self.roster is not None:
            assert self.believed == {"roles": self.roster.roles, "name": self.roster.name}


TestClub = Club.TestCase
