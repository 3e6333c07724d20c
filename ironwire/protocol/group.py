"""Changes of groups, and the rights to make them (docs/protocol.md, section 7.2), as pure functions on rosters.

    Changed      the roster of the next epoch, and the differences to tell
    Unchanged    the roster was so already
    Refused      an error code, and the remedy

Rules: only members see a group, and only admins change it, except that everyone may leave. While there are members one
of them is an admin. A group without members is over.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from attrs import frozen

from ironwire.ids import ClientId, Role
from ironwire.wire.messages import ErrorCode, GroupAdd, GroupCreate, GroupLeave, GroupRemove, GroupRename, GroupRole

Change = GroupAdd | GroupRemove | GroupLeave | GroupRole | GroupRename


@frozen
class Roster:
    """The state of a group: its members with their roles, in the order in which they came."""

    epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]


@frozen
class Changed:
    """The group moves to `roster`. `roles` holds the new roles; `name` is there if it is new."""

    roster: Roster
    added: list[ClientId]
    removed: list[ClientId]
    roles: Mapping[ClientId, Role]
    name: str | None


@frozen
class Unchanged:
    """Accepted; the epoch stays."""

    epoch: int


@frozen
class ChangeRefused:
    """Answer `error` with this code; nothing changes."""

    code: ErrorCode
    detail: str
    user: ClientId | None = None
    """Because of whom, if it is because of somebody."""


Outcome = Changed | Unchanged | ChangeRefused

NO_SUCH_GROUP = ChangeRefused("not_found", "no such group")
"""The same answer for a group that does not exist and for one that the client is not in."""


def create(by: ClientId, request: GroupCreate, most_members: int) -> Changed | ChangeRefused:
    """The roster that a new group begins with."""
    roles: dict[ClientId, Role] = {by: "admin", **{client: "member" for client in request.clients if client != by}}
    if len(roles) > most_members:
        return _too_many(most_members)
    return Changed(Roster(1, request.name, roles), list(roles), [], roles, request.name)


def change(roster: Roster | None, by: ClientId, request: Change, most_members: int) -> Outcome:
    """The outcome of a change that `by` requests; `roster` is None if there is no such group."""
    if roster is None or by not in roster.roles:
        return NO_SUCH_GROUP
    if roster.roles[by] != "admin" and not isinstance(request, GroupLeave):
        return ChangeRefused("forbidden", "only admins of the group may change it")
    if request.if_epoch is not None and request.if_epoch != roster.epoch:
        return ChangeRefused("conflict", f"the group is at epoch {roster.epoch}: look at it again")
    roles, name = dict(roster.roles), roster.name
    match request:
        case GroupAdd(clients=clients):
            roles.update({client: "member" for client in clients if client not in roles})
        case GroupRemove(clients=clients):
            for client in clients:
                roles.pop(client, None)
        case GroupLeave():
            del roles[by]
        case GroupRole(client=client, role=role):
            if client not in roles:
                return ChangeRefused("not_found", "that client is not a member: add it first")
            roles[client] = role
        case GroupRename(name=new_name):
            name = new_name
        case _:
            assert_never(request)
    return _outcome(roster, Roster(roster.epoch + 1, name, roles), most_members)


def expel(roster: Roster, client: ClientId, heirs: Iterable[ClientId] = ()) -> Changed:
    """The group after the operator has erased a member. If that was the last admin, the first of `heirs` that is a
    member becomes admin; or where none is, the member with the oldest membership.
    """
    roles = {each: role for each, role in roster.roles.items() if each != client}
    if roles and "admin" not in roles.values():
        roles[next(each for each in (*heirs, *roles) if each in roles)] = "admin"
    return _changed(roster, Roster(roster.epoch + 1, roster.name, roles))


def _outcome(before: Roster, after: Roster, most_members: int) -> Outcome:
    if after.roles == before.roles and after.name == before.name:
        return Unchanged(before.epoch)
    changed = _changed(before, after)
    if changed.added and len(after.roles) > most_members:
        return _too_many(most_members)
    if after.roles and "admin" not in after.roles.values():
        return ChangeRefused("conflict", "the group would have no admin: make another member admin first")
    return changed


def _changed(before: Roster, after: Roster) -> Changed:
    return Changed(
        roster=after,
        added=[client for client in after.roles if client not in before.roles],
        removed=[client for client in before.roles if client not in after.roles],
        roles={client: role for client, role in after.roles.items() if before.roles.get(client) != role},
        name=after.name if after.name != before.name else None,
    )


def _too_many(most_members: int) -> ChangeRefused:
    return ChangeRefused("quota", f"a group has at most {most_members} members")
