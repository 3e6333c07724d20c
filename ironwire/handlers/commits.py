"""Commits that make encrypted conversations and change them (docs/protocol.md, section 10.2).

`protocol/conversations` decides whether a commit may be, from the conversation as it stands; the store takes it only if
that stands so still. Of two commits of one epoch the first wins, and the other is told the epoch that it made.
"""

from collections.abc import Callable, Mapping
from functools import partial

import trio
from attrs import evolve, field, frozen

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.encrypted import NO_KEY, NO_SUCH_CONVERSATION, leaf_of
from ironwire.delivery.envelopes import ID_TAKEN, digest_of
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.janitor import DAY_MS, FileJanitor
from ironwire.errors import MLSError
from ironwire.handlers.commit_reader import ReadCommit, read_commit
from ironwire.handlers.epochs import conflict_with, place_of, too_often
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, MessageId, Role, is_group, parse_media_path
from ironwire.limits import CLIENTS_PER_FRAME, Limits
from ironwire.protocol.bucket import Buckets, Rate
from ironwire.protocol.conversations.membership import Checked, ConversationState, Logs, check, check_first
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.protocol.group import ChangeRefused
from ironwire.store.contract import operations as op
from ironwire.store.contract.conversations import StoredConversation, group_after
from ironwire.store.contract.directory import Group
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.store.files.blobs import Blobs
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode, encode_payload
from ironwire.wire.messages.fields import ErrorCode

ATTEMPTS = Rate(per_second=12 / 60, burst=12)
"""Of one client in one conversation, whatever becomes of them: each is read."""
COMMITS = Rate(per_second=6 / 60, burst=6)
"""Of one conversation: each goes to everybody, and whoever was on the way to commit begins anew."""
UPDATES = Rate(per_second=1 / 60, burst=3)
"""Of these, so many that nobody needs: they yield to everything else."""
_MOST_KEYS = 100_000


@frozen
class _Step:
    """A commit that may be: the state that it leads to, and whose each added key package is."""

    seen: tuple[int, int]
    after: StoredConversation
    checked: Checked
    claimed: Mapping[bytes, Leaf]
    group: Group | None = None
    roles: Mapping[ClientId, Role] = field(factory=dict)
    """Of the server group afterwards, where it changes."""


@frozen
class CommitHandler:
    """Answers devices that commit."""

    _store: Store
    _delivery: Delivery
    _blobs: Blobs
    _files: FileJanitor
    _limits: Limits
    _now_ms: Callable[[], int]
    _attempts: Buckets[tuple[ClientId, ConversationId]] = field(
        init=False, factory=lambda: Buckets(ATTEMPTS, _MOST_KEYS)
    )
    _commits: Buckets[ConversationId] = field(init=False, factory=lambda: Buckets(COMMITS, _MOST_KEYS))
    _updates: Buckets[ConversationId] = field(init=False, factory=lambda: Buckets(UPDATES, _MOST_KEYS))
    _readers: trio.CapacityLimiter = field(init=False, factory=lambda: trio.CapacityLimiter(1))
    """Large commits are read in a thread, one at a time."""

    @verb_handler
    async def commit(
        self, endpoint: Endpoint, request: msg.MlsCreate | msg.MlsCommit, id_: MessageId | None
    ) -> ErrorCode | None:
        """Begin a generation, or move a conversation to its next epoch.

        Raises:
            StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        answer = NO_KEY if who is None else await self._carry_out(*who, request, id_)
        return reply(endpoint, answer, id_)

    async def _carry_out(
        self, leaf: Leaf, device: DeviceId, request: msg.MlsCreate | msg.MlsCommit, id_: MessageId | None
    ) -> msg.Accepted | msg.Error:
        digest = digest_of(request)
        # The id is looked up first: the commit itself has made the same request impossible.
        known = None if id_ is None else await self._store.recall(leaf.client, device, id_, digest)
        if known is not None:
            return _answer(known)
        refusal = await self._refuses(leaf, request, await self._store.conversation(request.group))
        if refusal is not None:
            return refusal
        wait = self._attempts.take((leaf.client, request.group), 1, trio.current_time())
        if wait:
            return too_often(wait)
        try:
            read = await read_commit(request, self._blobs, self._readers)
            return await self._advance(leaf, device, request, read, (id_, digest))
        except MLSError as error:
            return msg.Error("invalid", detail=str(error))

    async def _advance(
        self,
        leaf: Leaf,
        device: DeviceId,
        request: msg.MlsCreate | msg.MlsCommit,
        read: ReadCommit,
        named: tuple[MessageId | None, bytes],
    ) -> msg.Accepted | msg.Error:
        """Decide and submit, again where the ground of the decision has moved meanwhile.

        Raises:
            MLSError: the commit adds what was not claimed, or a blob of it has expired meanwhile.
        """
        while True:
            step = await self._decide(leaf, request, read)
            if isinstance(step, msg.Error):
                return step
            wait = self._wait_to_commit(request.group, read)
            if wait:
                return too_often(wait)
            now = self._now_ms()
            await self._keep_blobs(read, now)
            result = await self._submit(leaf, device, read, step, named, now)
            match result:
                case op.Advanced():
                    return msg.Accepted(now, generation=step.after.generation, epoch=step.after.epoch)
                case op.EpochPassed():
                    continue  # of the server group
                case op.ConversationMoved() if isinstance(request, msg.MlsCreate):
                    continue
                case _:
                    return _answer(result)

    async def _keep_blobs(self, read: ReadCommit, now: int) -> None:
        """Keep the blobs of a commit as long as the commit itself, and a welcome in a mailbox.

        Raises:
            MLSError: one has expired meanwhile.
        """
        until_ms = now + int((self._limits.retention_days + 1 / 24) * DAY_MS)  # all expire once an hour
        for part in (read.commit, read.welcome):
            ref = None if part is None else part.ref
            if ref is not None and not await self._files.keep(parse_media_path(ref.url), until_ms):
                raise MLSError("a file of this commit has expired")

    def _wait_to_commit(self, conversation: ConversationId, read: ReadCommit) -> float:
        """Count a commit that may be; or the seconds until the conversation takes one more."""
        now = trio.current_time()
        wait = self._updates.take(conversation, 1, now) if read.declared.op == "update" else 0.0
        return wait or self._commits.take(conversation, 1, now)

    async def _decide(self, leaf: Leaf, request: msg.MlsCreate | msg.MlsCommit, read: ReadCommit) -> _Step | msg.Error:
        """Whether the commit may be, as the conversation stands now.

        Raises:
            MLSError: it adds what was not claimed.
        """
        current = await self._store.conversation(request.group)
        refusal = await self._refuses(leaf, request, current) or _contradicts(leaf, request, read, current)
        if refusal is not None:
            return refusal
        claimed = await self._store.claimed(request.group, leaf.client, read.refs)
        checked = await self._check(leaf, request, read, current, claimed)
        if isinstance(checked, ChangeRefused):
            return msg.Error(checked.code, detail=checked.detail, user=checked.user)
        if len(leaves_in(checked.slots)) > self._limits.mls_leaves:
            return msg.Error("quota", detail=f"a conversation has at most {self._limits.mls_leaves} devices")
        after = StoredConversation(
            request.group, request.generation, read.epoch + 1, read.group_id, checked.slots, checked.roster
        )
        step = _Step(place_of(current), after, checked, claimed)
        return await self._with_group(step, current) if is_group(request.group) else step

    async def _refuses(
        self, leaf: Leaf, request: msg.MlsCreate | msg.MlsCommit, current: StoredConversation | None
    ) -> msg.Error | None:
        """What can be said of a request without reading its commit, which takes long."""
        if isinstance(request, msg.MlsCommit):
            if current is None or leaf not in current.slots:
                return NO_SUCH_CONVERSATION
            if request.generation != current.generation:
                return conflict_with(current)
        elif current is not None and request.generation <= current.generation:
            return conflict_with(current)
        if is_group(request.group):
            group = await self._store.group(GroupId(request.group))
            if group is None or leaf.client not in group.roles:
                return NO_SUCH_CONVERSATION
            if current is None and group.roles[leaf.client] != "admin":
                return msg.Error("forbidden", detail="only admins of the group may encrypt it")
        return None

    async def _check(
        self,
        leaf: Leaf,
        request: msg.MlsCreate | msg.MlsCommit,
        read: ReadCommit,
        current: StoredConversation | None,
        claimed: Mapping[bytes, Leaf],
    ) -> Checked | ChangeRefused:
        proposals = read.proposals(claimed)
        clients = {added.client for added in claimed.values()}
        listed = {client: await self._store.listed_devices(client) for client in clients}
        tasks = await self._store.tasks(request.group)
        dropped = {task.leaf for task in tasks if task.kind == "remove"}
        logs = Logs(listed, dropped, {task.client for task in tasks if task.kind == "left"})
        if isinstance(request, msg.MlsCreate) or current is None:
            last = None if current is None else current.roster
            return check_first(read.declared, proposals, leaf, request.group, logs, last, has_path=read.has_path)
        before = ConversationState(current.id, current.slots, current.roster)
        return check(read.declared, proposals, read.committer, before, logs, has_path=read.has_path)

    async def _with_group(self, step: _Step, current: StoredConversation | None) -> _Step | msg.Error:
        """The step with the change of the server group that goes with it. A group that becomes encrypted has a new
        epoch in any case: whoever is about to change it in the clear finds out.
        """
        group = await self._store.group(GroupId(step.after.id))
        if group is None:
            return NO_SUCH_CONVERSATION
        roster = step.checked.roster
        if current is None:
            roles = group_after(group.roles, {}, roster)
        elif current.generation == step.after.generation:
            roles = group_after(group.roles, current.roster, roster)
        else:  # a restart: whom it leaves out stays a member, and who has left stays away
            roles = {client: roster.get(client, role) for client, role in group.roles.items()}
        if len(roles) > self._limits.group_members:
            return msg.Error("quota", detail=f"a group has at most {self._limits.group_members} members")
        changed = {client for client in (*roles, *group.roles) if roles.get(client) != group.roles.get(client)}
        if len(changed) > CLIENTS_PER_FRAME:
            return msg.Error("quota", detail=f"a commit concerns at most {CLIENTS_PER_FRAME} members of a group")
        if not changed and current is not None:
            return step
        return evolve(step, group=group, roles=roles)

    async def _submit(
        self,
        leaf: Leaf,
        device: DeviceId,
        read: ReadCommit,
        step: _Step,
        named: tuple[MessageId | None, bytes],
        now: int,
    ) -> op.Result:
        (id_, digest), after = named, step.after
        place = (leaf.client, device, after.id, after.generation, after.epoch, now)
        told = msg.MlsCommitted(*place, read.commit.sha256, read.commit.text, read.commit.ref)
        welcomes = [(added, msg.MlsWelcome(*place, part.text, part.ref)) for added, part in read.welcomes(step.claimed)]

        def envelope(
            message: msg.MlsCommitted | msg.MlsWelcome | msg.GroupChanged, its_id: MessageId | None = None
        ) -> Envelope:
            return Envelope(message.verb, leaf.client, device, after.id, its_id, now, encode_payload(message))

        change: op.ChangeGroup | None = None
        frame: Callable[[], bytes] = bytes  # nobody is owed the others without a mailbox
        if step.group is not None:
            changed = _changed(step.group, leaf.client, step.roles)
            told_of_group = envelope(evolve(changed, ts=now, device=device))
            change = op.ChangeGroup(told_of_group, b"", step.group.epoch, step.group.name, step.roles)
            frame = partial(encode, changed)
        operation = op.AdvanceConversation(
            envelope(told, id_),
            digest,
            step.seen,
            after,
            step.checked.added,
            tuple((added, envelope(welcome)) for added, welcome in welcomes),
            change,
        )
        return await self._delivery.encrypted.advance(operation, frame)


def _contradicts(
    leaf: Leaf, request: msg.MlsCreate | msg.MlsCommit, read: ReadCommit, current: StoredConversation | None
) -> msg.Error | None:
    """The commit is of another place than its frame says."""
    if isinstance(request, msg.MlsCreate) or current is None:
        if read.epoch != 0 or read.committer != 0:
            return msg.Error("invalid", detail="a generation begins with a commit of epoch 0 by leaf 0")
        if not Generation(request.group, request.generation).is_named_by(read.group_id):
            return msg.Error("invalid", detail="the id of the MLS group names another generation")
        return None
    if read.epoch != current.epoch:
        return conflict_with(current)
    if read.group_id != current.group_id:
        return msg.Error("invalid", detail="a commit of another MLS group")
    if current.slots[read.committer : read.committer + 1] != (leaf,):
        return msg.Error("invalid", detail="a commit of another device's leaf")
    return None


def _answer(result: op.Result) -> msg.Accepted | msg.Error:
    """The answer to a commit that was not made."""
    match result:
        case op.Duplicate(ts):
            return msg.Accepted(ts, duplicate=True)
        case op.IdTaken():
            return ID_TAKEN
        case op.ConversationMoved(generation, epoch):
            return msg.Error("conflict", detail="another commit was first", generation=generation, epoch=epoch)
        case op.TooManyGroups(client):
            return msg.Error("quota", detail="this client is in as many groups as one may be", user=client)
        case _:
            return msg.Error("internal", detail="the commit could not be stored")


def _changed(group: Group, by: ClientId, roles: Mapping[ClientId, Role]) -> msg.GroupChanged:
    return msg.GroupChanged(
        group.id,
        group.epoch + 1,
        by,
        added=[client for client in roles if client not in group.roles],
        removed=[client for client in group.roles if client not in roles],
        roles=[msg.GroupMember(client, role) for client, role in roles.items() if group.roles.get(client) != role],
    )
