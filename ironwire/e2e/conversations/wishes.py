"""Changes of a conversation that somebody wants, and the commit that makes each: pure functions.

    wish            wanted by                                  op
    --------------  -----------------------------------------  ------------------------------------
    BeginGeneration           a first message, a person, or healing      members, devices or update; epoch 0
    ChangeMembers   a person                                   members
    GiveRoles       a person                                   roles
    Rename          a person                                   rename
    ChangeDevices   the server, by `mls_task`                  devices
    TakeOut         the server, by `mls_task`                  leave
    AddAgain        the server, by `mls_task`                  readd
    RenewKeys       the clock                                  update

A wish is drafted anew whenever its turn comes, also after another commit was first: what is done already is left out,
and a wish of which nothing is left needs no commit.
"""

import hashlib
from collections.abc import Collection, Mapping

from attrs import field, frozen

from ironwire.e2e.conversations.membership import DeviceMembership, Roster
from ironwire.ids import ClientId, Role
from ironwire.protocol.conversations.declaration import Declaration, Op, roster_hash
from ironwire.protocol.conversations.membership import with_admin
from ironwire.protocol.conversations.slots import Leaf, leaves_of
from ironwire.wire.messages.conversations import MlsTask
from ironwire.wire.messages.key_packages import MlsDevice


@frozen
class BeginGeneration:
    """Begin the next generation, with these clients besides one's own. `roles` are theirs, if not member. Those who
    `may_be_missing` are left out where they have no device that reads encrypted messages. `name` is the group's, which
    is told in a message.
    """

    clients: tuple[ClientId, ...]
    roles: Mapping[ClientId, Role] = field(factory=dict)
    may_be_missing: bool = False
    name: str | None = None


@frozen
class ChangeMembers:
    add: tuple[ClientId, ...] = ()
    remove: tuple[ClientId, ...] = ()


@frozen
class GiveRoles:
    roles: Mapping[ClientId, Role]


@frozen
class Rename:
    name: str


@frozen
class ChangeDevices:
    add: tuple[Leaf, ...] = ()
    remove: tuple[Leaf, ...] = ()


@frozen
class TakeOut:
    """Clients that have left."""

    clients: tuple[ClientId, ...]


@frozen
class AddAgain:
    device: Leaf


@frozen
class RenewKeys:
    pass


Wish = BeginGeneration | ChangeMembers | GiveRoles | Rename | ChangeDevices | TakeOut | AddAgain | RenewKeys

OfHearers = ChangeMembers | ChangeDevices | TakeOut | AddAgain
"""Wishes that change which devices read what is said."""


@frozen
class Draft:
    """A commit, but for its key packages: those of all devices of `clients`, and of `devices`, are to be claimed."""

    op: Op
    clients: tuple[ClientId, ...] = ()
    devices: tuple[Leaf, ...] = ()
    removed: tuple[int, ...] = ()
    """Leaves by index."""
    gone: tuple[ClientId, ...] = ()
    """Clients that leave the roster."""
    roles: Mapping[ClientId, Role] = field(factory=dict)
    name: str | None = None
    may_be_missing: bool = False

    def declare(self, by: ClientId, before: Roster, added: Collection[ClientId]) -> tuple[Declaration, Roster]:
        """What the commit says of itself, where the devices of `added` clients could be claimed; and the roster after
        it.

        Raises:
            InvalidDeclaration: it is too large.
        """
        new = tuple(sorted(set(added) - before.keys())) if self.op == "members" else ()
        roles = {client: role for client, role in self.roles.items() if client in new or client in before}
        after: dict[ClientId, Role] = {client: role for client, role in before.items() if client not in self.gone}
        fresh: dict[ClientId, Role] = dict.fromkeys(new, "member")
        after.update(fresh | roles)
        if self.op == "leave":
            after = with_admin(after)
        name = None if self.name is None else hashlib.sha256(self.name.encode()).hexdigest()
        gone = tuple(sorted(self.gone))
        said = roles if self.op in ("members", "roles") else {}
        declared = Declaration(
            by=by, op=self.op, add=new, remove=gone, roles=said, name=name, roster=roster_hash(after)
        )
        return declared, after


def draft(wish: Wish, member: DeviceMembership, own: Leaf) -> Draft | None:
    """The commit that makes it so; None: it is so."""
    roster, slots = member.roster, member.slots
    match wish:
        case BeginGeneration(clients, roles, may_be_missing, _):
            others = tuple(client for client in clients if client != own.client)
            op: Op = "members" if others else "devices"
            return Draft(op, (*others, own.client), roles=roles, may_be_missing=may_be_missing)
        case ChangeMembers(add, remove):
            new = tuple(client for client in add if client not in roster)
            gone = tuple(client for client in remove if client in roster)
            removed = tuple(index for client in gone for index in leaves_of(slots, client))
            return Draft("members", new, removed=removed, gone=gone) if new or gone else None
        case GiveRoles(roles):
            changed = {client: role for client, role in roles.items() if roster.get(client) != role}
            return Draft("roles", roles=changed) if changed else None
        case Rename(name):
            return Draft("rename", name=name)
        case ChangeDevices(add, remove):
            devices = tuple(leaf for leaf in add if leaf.client in roster and leaf not in slots)
            removed = tuple(slots.index(leaf) for leaf in remove if leaf in slots and leaf != own)
            return Draft("devices", devices=devices, removed=removed) if devices or removed else None
        case TakeOut(clients):
            gone = tuple(client for client in clients if client in roster and client != own.client)
            removed = tuple(index for client in gone for index in leaves_of(slots, client))
            return Draft("leave", removed=removed, gone=gone) if gone else None
        case AddAgain(device):
            index = member.index_of(device)
            return None if index is None or device == own else Draft("readd", devices=(device,), removed=(index,))
        case RenewKeys():
            return Draft("update")


def wishes_of(task: MlsTask) -> list[Wish]:
    """The changes that the server asks for."""
    wishes: list[Wish] = [AddAgain(leaf) for leaf in _leaves(task.readd)]
    if task.add or task.remove:
        wishes.append(ChangeDevices(_leaves(task.add), _leaves(task.remove)))
    if task.left:
        wishes.append(TakeOut(tuple(task.left)))
    return wishes


def _leaves(devices: list[MlsDevice] | None) -> tuple[Leaf, ...]:
    return tuple(Leaf(each.client, bytes.fromhex(each.device_key)) for each in devices or ())
