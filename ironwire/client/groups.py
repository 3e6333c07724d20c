"""A client's groups: durable memberships, each of which changes by one epoch at a time (docs/protocol.md, section 7.2).

Texts and files go to a group as they go to a client, through `Client`. What comes from one carries `group`, and every
change comes as a `GroupChanged`, in order with them.

In an encrypted group the same calls make commits: the members' devices see who changes what, and the server cannot add
anybody. There `if_epoch` is compared before the commit is made; a change that is made at the same moment comes first.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol, TypeVar

from attrs import define, evolve

from ironwire.client.connection.outgoing import AskedAnswer
from ironwire.client.encryption import HELD_REASONS, Encryption
from ironwire.client.errors import KeystoreError, NotTheProtocol, Refused
from ironwire.client.rosters import Rosters
from ironwire.e2e.conversations.wishes import BeginGeneration, ChangeMembers, GiveRoles, Rename, Wish
from ironwire.ids import Address, ClientId, GroupId, MessageId, Role
from ironwire.wire import messages as msg

Details = TypeVar("Details", msg.GroupDetails, msg.GroupSummary)


class Asks(Protocol):
    """Asks the server: this client's requests, or another program that has the device."""

    @property
    def encryption(self) -> Encryption | None: ...

    async def ask(
        self, message: msg.ClientMessage, kind: type[AskedAnswer], message_id: MessageId | None = None
    ) -> AskedAnswer: ...


async def epoch_code(requests: Asks, to: Address) -> str | None:
    """As `Client.epoch_code`."""
    return None if requests.encryption is None else await requests.encryption.epoch_code(to)


@define(eq=False)
class OwnGroups:
    """`Client.groups`. Changes wait through reconnections, and are made once however often they had to be sent.

    With `if_epoch`, a change is made only if that is still the group's epoch. `epoch` of the answer is what it is then.

    Raises, every one of them:
        Refused: `not_found`: there is no such group, or this client is not in it. `forbidden`: only an admin may do
            this. `conflict`: the epoch has passed, or the group would be left without an admin, or it is encrypted and
            this device is not in it yet. `quota`: somebody, or
            the group, has as much as the server allows.
        SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped; whether the change was made is
            not known.
    """

    _requests: Asks
    _rosters: Rosters | None = None
    """What this client knows of its groups without asking."""

    async def create(self, clients: Iterable[ClientId], name: str | None = None) -> GroupId:
        """Make a group of this client, which is its admin, and `clients`: an encrypted one, if all of them have device
        logs.

        Raises, besides:
            Refused: `user_offline`: no device of the client `user` has published keys yet, and none did within seconds.
                There is no group then.
        """
        members = [*clients]
        if self._encryption is None:
            return await self._create(members, name)
        group = await self._create([], None)
        refused: Refused | None = None
        try:
            await self._encryption.change(group, BeginGeneration(tuple(members), name=name))
        except Refused as error:
            refused = error
        if refused is not None and refused.code == "not_found" and refused.user is not None:
            await self._make_plain(group, members, name)
        elif refused is not None:
            await self._give_up(group)
            raise refused
        return group

    async def encrypt(self, group: GroupId) -> None:
        """Encrypt a group for good, of which this client is an admin. Members that have no device with a key can read
        nothing from then on; they can be added again when they have one.
        """
        details = await self.info(group)
        roles = {member.client: member.role for member in details.members}
        wish = BeginGeneration(tuple(roles), roles, may_be_missing=True, name=details.name)
        await self._encrypted.change(group, wish)

    def is_encrypted(self, group: GroupId) -> bool:
        """Whether nothing of the group goes in the clear."""
        return self._encryption is not None and self._encryption.engine.is_encrypted(group)

    async def add(self, group: GroupId, clients: Iterable[ClientId], *, if_epoch: int | None = None) -> msg.Accepted:
        """Make `clients` members."""
        if await self._is_secret(group):
            return await self._wish(group, ChangeMembers(add=tuple(clients)), if_epoch)
        return await self._change(msg.GroupAdd(group, [*clients], if_epoch))

    async def remove(self, group: GroupId, clients: Iterable[ClientId], *, if_epoch: int | None = None) -> msg.Accepted:
        """Remove `clients`; they learn of it, and of nothing after it."""
        if await self._is_secret(group):
            return await self._wish(group, ChangeMembers(remove=tuple(clients)), if_epoch)
        return await self._change(msg.GroupRemove(group, [*clients], if_epoch))

    async def leave(self, group: GroupId, *, if_epoch: int | None = None) -> msg.Accepted:
        """Remove this client. The last admin cannot leave while others are in the group."""
        return await self._change(msg.GroupLeave(group, if_epoch))

    async def set_role(
        self, group: GroupId, client: ClientId, role: Role, *, if_epoch: int | None = None
    ) -> msg.Accepted:
        """Make a member an admin, or an admin a member like others."""
        if await self._is_secret(group):
            return await self._wish(group, GiveRoles({client: role}), if_epoch)
        return await self._change(msg.GroupRole(group, client, role, if_epoch))

    async def rename(self, group: GroupId, name: str, *, if_epoch: int | None = None) -> msg.Accepted:
        """Give the group another name, for all of its members."""
        if await self._is_secret(group):
            return await self._wish(group, Rename(name), if_epoch)
        return await self._change(msg.GroupRename(group, name, if_epoch))

    async def info(self, group: GroupId) -> msg.GroupDetails:
        """Name, epoch and members of the group: from what this client knows, as long as it knows of every change. Of an
        encrypted group the server is asked.
        """
        rosters = None if self.is_encrypted(group) else self._rosters
        known = None if rosters is None else rosters.get(group)
        if known is not None:
            return self._named(known)
        forgotten = 0 if rosters is None else rosters.forgotten
        details = await self._requests.ask(msg.GroupInfo(group), msg.GroupDetails)
        if rosters is not None and rosters.forgotten == forgotten:
            rosters.learn(details)
        return self._named(details)

    async def all(self) -> list[msg.GroupSummary]:
        """The groups in which this client is, oldest membership first, as the server has them."""
        found = (await self._requests.ask(msg.Groups(), msg.GroupList)).groups
        return [self._named(each) for each in found]

    @property
    def _encryption(self) -> Encryption | None:
        return self._requests.encryption

    @property
    def _encrypted(self) -> Encryption:
        if self._encryption is None:
            raise KeystoreError("this client has no device keys: open them beside the identity first")
        return self._encryption

    async def _is_secret(self, group: GroupId) -> bool:
        return self._encryption is not None and await self._encryption.is_secret(group)

    def _named(self, details: Details) -> Details:
        """With the name of an encrypted group, which its server does not know."""
        member = None if self._encryption is None else self._encryption.engine.member_of(details.group)
        name = None if member is None else member.facts.name
        return details if name is None else evolve(details, name=name)

    async def _wish(self, group: GroupId, wish: Wish, if_epoch: int | None) -> msg.Accepted:
        member = self._encrypted.engine.member_of(group)
        if member is not None and member.standing == "wedged":
            raise Refused("conflict", f"{HELD_REASONS['entry']}; try again then")
        epoch = (await self.info(group)).epoch
        if if_epoch not in (None, epoch):
            raise Refused("conflict", f"the group is at epoch {epoch}: look at it again")
        await self._encrypted.change(group, wish)
        return msg.Accepted(time.time_ns() // 1_000_000, group=group, epoch=(await self.info(group)).epoch)

    async def _create(self, clients: list[ClientId], name: str | None) -> GroupId:
        accepted = await self._change(msg.GroupCreate(clients, name))
        if accepted.group is None:
            raise NotTheProtocol("the server made a group and did not say which")
        return accepted.group

    async def _give_up(self, group: GroupId) -> None:
        """Nobody but this client is in it."""
        with suppress(Refused):
            await self._change(msg.GroupLeave(group))

    async def _make_plain(self, group: GroupId, members: list[ClientId], name: str | None) -> None:
        """Somebody among `members` has no device log."""
        if members:
            await self._change(msg.GroupAdd(group, members))
        if name is not None:
            await self._change(msg.GroupRename(group, name))

    async def _change(self, change: msg.ClientMessage) -> msg.Accepted:
        accepted = await self._requests.ask(change, msg.Accepted)
        if self._rosters is not None and accepted.group is not None and accepted.epoch is not None:
            self._rosters.hear(accepted.group, accepted.epoch)
        return accepted
