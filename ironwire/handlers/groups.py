"""Groups: questions about them, and changes (docs/protocol.md, section 7.2).

`protocol/group.py` decides from the group as it stands; the store takes the change only if it stands so still. A change
that lost a race is decided anew, from what the winner has left.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import assert_never

import trio
from attrs import evolve, frozen

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.envelopes import ID_TAKEN, NO_SUCH_GROUP, digest_of
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, GroupId, MessageId, Role
from ironwire.protocol.group import Change, Changed, ChangeRefused, Outcome, Roster, Unchanged, change, create, expel
from ironwire.store.contract import operations as op
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode, encode_payload
from ironwire.wire.messages.fields import ErrorCode

GROUP_ID_BYTES = 16
IS_ENCRYPTED = ChangeRefused("forbidden", "this group is encrypted: its members change it with mls_commit")


@frozen
class GroupHandler:
    """Answers clients about groups, and changes groups."""

    _store: Store
    _delivery: Delivery
    _now_ms: Callable[[], int]
    _random_bytes: Callable[[int], bytes]
    _most_members: int

    @verb_handler
    async def info(self, endpoint: Endpoint, request: msg.GroupInfo, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        return reply(endpoint, _details(await self._store.group(request.group), endpoint.principal.client), id_)

    @verb_handler
    async def list_groups(self, endpoint: Endpoint, request: msg.Groups, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        groups = await self._store.groups_of(endpoint.principal.client)
        return reply(endpoint, msg.GroupList([*map(_summary, groups)]), id_)

    @verb_handler
    async def change(
        self, endpoint: Endpoint, request: msg.GroupCreate | Change, id_: MessageId | None
    ) -> ErrorCode | None:
        """Make or change a group. A refusal holds the session.

        Raises:
            StoreError: the store cannot work.
        """
        answer = await self._carry_out(endpoint, request, id_)
        if isinstance(answer, msg.Error) and endpoint.hold is not None:
            endpoint.hold.refused_at_commit(answer)
        return reply(endpoint, answer, id_)

    async def _carry_out(
        self,
        endpoint: Endpoint,
        request: msg.GroupCreate | Change,
        id_: MessageId | None,
    ) -> msg.Accepted | msg.Error:
        by, device, digest = endpoint.principal.client, endpoint.principal.device, digest_of(request)
        # The id is looked up first: the change itself may have made the same request impossible.
        known = None if id_ is None else await self._store.recall(by, device, id_, digest)
        if known is not None:
            return _answer(known)
        result: op.Result = op.EpochPassed()
        while isinstance(result, op.EpochPassed):
            group, outcome = await self._decide(by, request)
            match outcome:
                case ChangeRefused(code, detail):
                    return msg.Error(code, detail=detail)
                case Unchanged(epoch):
                    return msg.Accepted(self._now_ms(), group=group, epoch=epoch)
                case Changed(after):
                    now = self._now_ms()
                    told = evolve(_told(group, by, outcome), ts=now, device=device)
                    envelope = Envelope(told.verb, by, device, group, id_, now, encode_payload(told))
                    result = await self._submit(envelope, digest, outcome, endpoint.hold)
                    if isinstance(result, op.Appended):
                        return msg.Accepted(now, group=group, epoch=after.epoch)
                case _:
                    assert_never(outcome)
        if isinstance(result, op.Held) and endpoint.hold is not None:
            return endpoint.hold.answer(trio.current_time())
        return _answer(result)

    async def _decide(self, by: ClientId, request: msg.GroupCreate | Change) -> tuple[GroupId, Outcome]:
        """The group of the request, and its outcome as the group stands now."""
        if isinstance(request, msg.GroupCreate):
            group = GroupId("#" + self._random_bytes(GROUP_ID_BYTES).hex())
            return group, create(by, request, self._most_members)
        if not isinstance(request, msg.GroupLeave) and await self._store.conversation(request.group) is not None:
            return request.group, IS_ENCRYPTED
        roster = _roster(await self._store.group(request.group))
        return request.group, change(roster, by, request, self._most_members)

    async def expel(self, client: ClientId) -> int:
        """Take the client out of all its groups, as if it had left; says out of how many.

        Raises:
            StoreError: the store cannot work.
        """
        left = 0
        while memberships := await self._store.groups_of(client):
            for membership in memberships:
                group = await self._store.group(membership.group)
                if group is None or client not in group.roles:
                    continue
                encrypted = await self._store.conversation(group.id)
                # The commit that takes the client out of the roster will make the same member admin.
                heirs = () if encrypted is None else sorted(encrypted.roster)
                changed = expel(Roster(group.epoch, group.name, group.roles), client, heirs)
                now = self._now_ms()
                told = evolve(_told(group.id, client, changed), ts=now)
                envelope = Envelope(told.verb, client, None, group.id, None, now, encode_payload(told))
                left += isinstance(await self._submit(envelope, b"", changed), op.Appended)
        return left

    async def _submit(
        self, envelope: Envelope, digest: bytes, changed: Changed, lane: Hashable | None = None
    ) -> op.Result:
        told, after = _told(GroupId(envelope.to), envelope.sender, changed), changed.roster
        operation = op.ChangeGroup(envelope, digest, after.epoch - 1, after.name, after.roles, lane)
        return await self._delivery.envelopes.change_group(operation, partial(encode, told))


def _answer(result: op.Result) -> msg.Accepted | msg.Error:
    """The answer to a change that the store did not make."""
    match result:
        case op.Duplicate(ts, group):
            return msg.Accepted(ts, duplicate=True, group=group)
        case op.IdTaken():
            return ID_TAKEN
        case op.TooManyGroups(client):
            return msg.Error("quota", detail="this client is in as many groups as one may be", user=client)
        case _:
            return msg.Error("internal", detail="the change could not be stored")


def _roster(group: Group | None) -> Roster | None:
    return None if group is None else Roster(group.epoch, group.name, group.roles)


def _told(group: GroupId, by: ClientId, changed: Changed) -> msg.GroupChanged:
    roster, roles = changed.roster, _members(changed.roles)
    return msg.GroupChanged(group, roster.epoch, by, changed.added, changed.removed, roles, changed.name)


def _details(group: Group | None, client: ClientId) -> msg.GroupDetails | msg.Error:
    if group is None or client not in group.roles:
        return NO_SUCH_GROUP
    return msg.GroupDetails(group.id, group.epoch, _members(group.roles), group.name)


def _summary(group: Membership) -> msg.GroupSummary:
    return msg.GroupSummary(group.group, group.epoch, group.role, group.members, group.name)


def _members(roles: Mapping[ClientId, Role]) -> list[msg.GroupMember]:
    return [msg.GroupMember(client, role) for client, role in roles.items()]
