"""Whether a commit does what it declares, and may (docs/protocol.md, section 10.2): one rule for server and members.

    op        by whom                the proposals beside it
    --------  ---------------------  -------------------------------------------------------------------------------
    members   an admin               Add: one device or more of each added client, and any of those who stay;
                                     Remove: all leaves of each removed client
    roles     an admin               none
    rename    an admin               none
    devices   any client             Add: devices of clients in the roster; Remove: devices that may be dropped
    leave     any client             Remove: all leaves of clients that have left
    readd     any client             Remove of one leaf, and Add of the same device
    update    any client             none

Every Add is of a device that its client's log lists. A commit without proposals, or with a Remove, has a path (RFC
9420, section 12.4). To add a client takes an admin's signature; that a client has left, or a device is to be dropped,
members take from the server, which can cut anybody off anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from attrs import frozen

from ironwire.ids import ClientId, ConversationId, Role, is_group
from ironwire.protocol.conversations.declaration import Declaration, Op, roster_hash
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf, Slots, change_slots, leaf_at, leaves_of
from ironwire.protocol.group import ChangeRefused

MOST_PROPOSALS = 2_047
_FIRST_OPS: AbstractSet[Op] = {"members", "devices", "update"}


@frozen
class AddedLeaf:
    """An Add of a valid key package of this device."""

    leaf: Leaf


@frozen
class RemovedLeaf:
    """A Remove of the leaf at this index."""

    index: int


Proposed = AddedLeaf | RemovedLeaf


@frozen
class ConversationState:
    """A conversation as it stands."""

    conversation: ConversationId
    slots: Slots
    roster: Mapping[ClientId, Role]


@frozen
class Logs:
    """What is known besides. `devices` are those that the log of a client lists now.

    `dropped` are leaves that may be removed although their client stays, and `left` clients that are in the roster and
    have left. Only the server knows them: None stands for all, because members take the server's word.
    """

    devices: Mapping[ClientId, AbstractSet[bytes]]
    dropped: AbstractSet[Leaf] | None = None
    left: AbstractSet[ClientId] | None = None

    def have(self, leaf: Leaf) -> bool:
        return leaf.device in self.devices.get(leaf.client, ())

    def allow_drop(self, leaf: Leaf) -> bool:
        return self.dropped is None or leaf in self.dropped

    def say_left(self, client: ClientId) -> bool:
        return self.left is None or client in self.left


@frozen
class Checked:
    """The conversation after the commit."""

    slots: Slots
    roster: Mapping[ClientId, Role]
    added: tuple[Leaf, ...]
    removed: tuple[Leaf, ...]


@frozen
class _Commit:
    """One commit with everything that the rules look at."""

    declared: Declaration
    added: tuple[Leaf, ...]
    removed: Mapping[int, Leaf]
    before: ConversationState
    logs: Logs

    @property
    def is_by_admin(self) -> bool:
        return self.before.roster[self.declared.by] == "admin"

    def added_of(self, client: ClientId) -> int:
        return sum(leaf.client == client for leaf in self.added)

    def removes_all_of(self, clients: Sequence[ClientId]) -> bool:
        """Whether exactly the leaves of these clients are removed, all of them."""
        theirs = {index for client in clients for index in leaves_of(self.before.slots, client)}
        return self.removed.keys() == theirs


class _Refused(Exception):
    def __init__(self, refusal: ChangeRefused) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def check(
    declared: Declaration,
    proposals: Sequence[Proposed],
    committer: int,
    before: ConversationState,
    logs: Logs,
    *,
    has_path: bool,
) -> Checked | ChangeRefused:
    """The outcome of a commit of the leaf at index `committer`."""
    try:
        commit = _Commit(declared, *_split(proposals, committer, before, logs), before, logs)
        sender = leaf_at(before.slots, committer)
        _need(
            sender is not None and sender.client == declared.by, "a commit that names another client than its sender's"
        )
        _need_right(declared.by in before.roster, "a commit by a client that is not in the roster")
        _need(has_path or (proposals and not commit.removed), "a commit without the path that it must have")
        _need_only(declared, _FIELDS[declared.op])
        roster = _RULES[declared.op](commit)
        _check_roster(before.conversation, roster)
    except _Refused as refused:
        return refused.refusal
    if roster_hash(roster) != declared.roster:
        return ChangeRefused("invalid", "a commit that declares another roster than it leads to")
    slots = change_slots(before.slots, commit.removed, commit.added)
    return Checked(slots, roster, commit.added, tuple(commit.removed.values()))


def check_first(
    declared: Declaration,
    proposals: Sequence[Proposed],
    creator: Leaf,
    conversation: ConversationId,
    logs: Logs,
    last_roster: Mapping[ClientId, Role] | None,
    *,
    has_path: bool,
) -> Checked | ChangeRefused:
    """The outcome of the first commit of a generation, by a device that is alone in it.

    Args:
        last_roster: of the generation before. Nobody comes into a group by a restart, which is for admins of that
            roster. A pair has its two clients in every generation.
    """
    if declared.op not in _FIRST_OPS:
        return ChangeRefused("invalid", f"a generation does not begin with a commit for {declared.op}")
    if not is_group(conversation):
        last_roster = None  # its name says who is in a pair
    if last_roster is not None and last_roster.get(creator.client) != "admin":
        return ChangeRefused("forbidden", "only admins may restart a conversation")
    before = ConversationState(conversation, (creator,), {creator.client: "admin"})
    outcome = check(declared, proposals, 0, before, logs, has_path=has_path)
    if isinstance(outcome, ChangeRefused):
        return outcome
    brought = set() if last_roster is None else outcome.roster.keys() - last_roster.keys()
    if brought:
        return ChangeRefused("forbidden", "a restart brings in a client that was not in the conversation", min(brought))
    if not is_group(conversation):
        clients = [*outcome.roster]
        if pair_id(clients[0], clients[-1]) != conversation:
            return ChangeRefused("forbidden", "a pair without its other client")
    return outcome


def _need(condition: object, detail: str) -> None:
    if not condition:
        raise _Refused(ChangeRefused("invalid", detail))


def _need_right(condition: object, detail: str) -> None:
    if not condition:
        raise _Refused(ChangeRefused("forbidden", detail))


def _split(
    proposals: Sequence[Proposed], committer: int, before: ConversationState, logs: Logs
) -> tuple[tuple[Leaf, ...], dict[int, Leaf]]:
    """The leaves that are added, in their order, and those that are removed, by index."""
    _need(len(proposals) <= MOST_PROPOSALS, f"a commit with more than {MOST_PROPOSALS} proposals")
    removed: dict[int, Leaf] = {}
    for each in proposals:
        if isinstance(each, RemovedLeaf):
            leaf = leaf_at(before.slots, each.index)
            if leaf is None:
                raise _Refused(ChangeRefused("invalid", "a Remove of a leaf that is blank"))
            _need(each.index != committer, "a Remove of the committer's own leaf")
            _need(each.index not in removed, "two Removes of one leaf")
            removed[each.index] = leaf
    added = tuple(each.leaf for each in proposals if isinstance(each, AddedLeaf))
    stay = {leaf for index, leaf in enumerate(before.slots) if leaf is not None and index not in removed}
    devices = [leaf.device for leaf in (*stay, *added)]
    _need(len(set(devices)) == len(devices), "an Add of a device that is in the group already")
    for leaf in added:
        _need_right(logs.have(leaf), "an Add of a device that is not in the log of its client")
    return added, removed


# --- one rule for each op --------------------------------------------------------------------------------------------

_FIELDS: Mapping[Op, AbstractSet[str]] = {
    "members": {"add", "remove", "roles"},
    "roles": {"roles"},
    "rename": {"name"},
    "devices": frozenset(),
    "leave": {"remove"},
    "readd": frozenset(),
    "update": frozenset(),
}


def _need_only(declared: Declaration, fields: AbstractSet[str]) -> None:
    for field in ("add", "remove", "roles", "name"):
        _need(not getattr(declared, field) or field in fields, f"a commit for {declared.op} that declares {field}")


def _members(commit: _Commit) -> dict[ClientId, Role]:
    declared, roster = commit.declared, dict(commit.before.roster)
    _need_right(commit.is_by_admin, "only admins may add and remove clients")
    _need(declared.add or declared.remove, "a commit for members that adds and removes nobody")
    _need(not any(client in roster for client in declared.add), "an added client that is in the roster already")
    _need(all(client in roster for client in declared.remove), "a removed client that is not in the roster")
    _need_right(is_group(commit.before.conversation) or not declared.remove, "nobody is removed from a pair")
    _need(declared.roles.keys() <= set(declared.add), "a role for a client that is not added")
    _need(all(map(commit.added_of, declared.add)), "an added client without a device")
    _need(commit.removes_all_of(declared.remove), "the removed leaves are not those of the removed clients")
    for client in declared.remove:
        del roster[client]
    roster.update({client: declared.roles.get(client, "member") for client in declared.add})
    _need_right(all(leaf.client in roster for leaf in commit.added), "an Add of a client that is not declared")
    return roster


def _roles(commit: _Commit) -> dict[ClientId, Role]:
    declared, roster = commit.declared, commit.before.roster
    _need_right(commit.is_by_admin, "only admins may give roles")
    _need(is_group(commit.before.conversation), "there are no roles in a pair")
    _need_no_proposals(commit)
    _need(declared.roles, "a commit for roles that gives none")
    _need(declared.roles.keys() <= roster.keys(), "a role for a client that is not in the roster")
    return {**roster, **declared.roles}


def _rename(commit: _Commit) -> dict[ClientId, Role]:
    _need_right(commit.is_by_admin, "only admins may rename")
    _need(is_group(commit.before.conversation), "a pair has no name")
    _need_no_proposals(commit)
    _need(commit.declared.name, "a commit for a name that declares none")
    return dict(commit.before.roster)


def _devices(commit: _Commit) -> dict[ClientId, Role]:
    roster = commit.before.roster
    _need(commit.added or commit.removed, "a commit for devices that adds and removes none")
    _need_right(all(leaf.client in roster for leaf in commit.added), "an Add of a client that is not in the roster")
    _need_right(all(map(commit.logs.allow_drop, commit.removed.values())), "a Remove of a device that stays")
    return dict(roster)


def _leave(commit: _Commit) -> dict[ClientId, Role]:
    gone, roster = commit.declared.remove, dict(commit.before.roster)
    _need(gone, "a commit for clients that left names none")
    _need(all(client in roster for client in gone), "a client that left is not in the roster")
    _need_right(all(map(commit.logs.say_left, gone)), "a client that has not left")
    _need(not commit.added and commit.removes_all_of(gone), "the removed leaves are not those of the clients that left")
    for client in gone:
        del roster[client]
    return with_admin(roster)


def _readd(commit: _Commit) -> dict[ClientId, Role]:
    _need(commit.added and commit.added == tuple(commit.removed.values()), "a commit that adds again what it removes")
    _need(len(commit.added) == 1, "a commit that adds again one device")
    return dict(commit.before.roster)


def _update(commit: _Commit) -> dict[ClientId, Role]:
    _need_no_proposals(commit)
    return dict(commit.before.roster)


_RULES: Mapping[Op, Callable[[_Commit], dict[ClientId, Role]]] = {
    "members": _members,
    "roles": _roles,
    "rename": _rename,
    "devices": _devices,
    "leave": _leave,
    "readd": _readd,
    "update": _update,
}


def _need_no_proposals(commit: _Commit) -> None:
    _need(not commit.added and not commit.removed, f"a commit for {commit.declared.op} with proposals")


def with_admin(roster: dict[ClientId, Role]) -> dict[ClientId, Role]:
    """Where the last admin has left, the client with the smallest id is the next: nobody chooses it, the server neither
    chooses nor says it.
    """
    if "admin" not in roster.values():
        roster[min(roster)] = "admin"
    return roster


def _check_roster(conversation: ConversationId, roster: Mapping[ClientId, Role]) -> None:
    """A group keeps an admin. In a pair there are these two and nobody else, both admins."""
    if is_group(conversation):
        _need("admin" in roster.values(), "the group would have no admin")
    else:
        both = sorted(roster)
        _need(len(both) <= 2 and set(roster.values()) == {"admin"}, "two admins make a pair")
        _need_right(len(both) == 1 or pair_id(*both) == conversation, "a pair of other clients")
