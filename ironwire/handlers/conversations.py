"""Encrypted conversations: commits that make and change them, messages, and how devices find out where they stand
(docs/protocol.md, section 10).

`protocol/conversations` decides whether a commit may be, from the conversation as it stands; the store takes it only if
that stands so still. Of two commits of one epoch the first wins, and the other is told the epoch that it made.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import structlog
import trio
from attrs import evolve, field, frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.envelopes import ID_TAKEN, NO_SUCH_CONVERSATION, digest_of
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import InvalidId, MLSError
from ironwire.handlers.commits import ReadCommit, read_commit
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, MessageId, Role, is_group
from ironwire.limits import CLIENTS_PER_FRAME, COMMITS_PER_PAGE, CONVERSATIONS_PER_PAGE, Limits
from ironwire.mls.public import inspect_application
from ironwire.protocol.bucket import Buckets, Rate
from ironwire.protocol.conversations.membership import Checked, ConversationState, Logs, check, check_first
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.protocol.group import ChangeRefused
from ironwire.store.contract.conversations import StoredConversation, group_after
from ironwire.store.contract.directory import Group
from ironwire.store.contract.operations import (
    AdvanceConversation,
    Advanced,
    AskToRejoin,
    ChangeGroup,
    ConversationMoved,
    Duplicate,
    EpochPassed,
    IdTaken,
    Result,
    TooManyGroups,
)
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.store.files.blobs import Blobs
from ironwire.wire.base64url import from_base64url
from ironwire.wire.codec import commits_text, encode, encode_payload
from ironwire.wire.messages import (
    Accepted,
    Error,
    GroupChanged,
    GroupMember,
    MlsCommit,
    MlsCommits,
    MlsCommitted,
    MlsCreate,
    MlsGroup,
    MlsGroupPage,
    MlsGroups,
    MlsMessage,
    MlsNack,
    MlsRejoin,
    MlsSend,
    MlsSignal,
    MlsWelcome,
    RelayedMlsSignal,
)
from ironwire.wire.messages.fields import ErrorCode

log = structlog.get_logger(__name__)

ATTEMPTS = Rate(per_second=12 / 60, burst=12)
"""Of one client in one conversation, whatever becomes of them: each is read."""
COMMITS = Rate(per_second=6 / 60, burst=6)
"""Of one conversation: each goes to everybody, and whoever was on the way to commit begins anew."""
UPDATES = Rate(per_second=1 / 60, burst=3)
"""Of these, so many that nobody needs: they yield to everything else."""
REJOINS = Rate(per_second=3 / 86_400, burst=3)
"""Of one device into one conversation: each costs a commit."""
_MOST_KEYS = 100_000

NO_KEY = Error("forbidden", detail="this session has no certificate: authenticate with one")


def leaf_of(endpoint: Endpoint) -> tuple[Leaf, DeviceId] | None:
    """The device of a session with a certificate, by its key, and by its name."""
    principal = endpoint.principal
    if principal.device_key is None or principal.device is None:
        return None
    return Leaf(principal.client, principal.device_key.raw), principal.device


@frozen
class ConversationStatistics:
    nacks_total: Tallied = figure("Commits that a device could not apply, by conversation kind.")


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
class ConversationHandler:
    """Answers devices about encrypted conversations."""

    _hub: Hub
    _store: Store
    _delivery: Delivery
    _blobs: Blobs
    _limits: Limits
    _now_ms: Callable[[], int]
    _attempts: Buckets[tuple[ClientId, ConversationId]] = field(
        init=False, factory=lambda: Buckets(ATTEMPTS, _MOST_KEYS)
    )
    _commits: Buckets[ConversationId] = field(init=False, factory=lambda: Buckets(COMMITS, _MOST_KEYS))
    _updates: Buckets[ConversationId] = field(init=False, factory=lambda: Buckets(UPDATES, _MOST_KEYS))
    _rejoins: Buckets[tuple[Leaf, ConversationId]] = field(init=False, factory=lambda: Buckets(REJOINS, _MOST_KEYS))
    _nacks: Counter[str] = field(init=False, factory=Counter)
    _readers: trio.CapacityLimiter = field(init=False, factory=lambda: trio.CapacityLimiter(1))
    """Large commits are read in a thread, one at a time."""

    # --- commits -----------------------------------------------------------------------------------------------------

    @verb_handler
    async def commit(
        self, endpoint: Endpoint, request: MlsCreate | MlsCommit, id_: MessageId | None
    ) -> ErrorCode | None:
        """Begin a generation, or move a conversation to its next epoch.

        Raises:
            StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        answer = NO_KEY if who is None else await self._carry_out(*who, request, id_)
        return reply(endpoint, answer, id_)

    async def _carry_out(
        self, leaf: Leaf, device: DeviceId, request: MlsCreate | MlsCommit, id_: MessageId | None
    ) -> Accepted | Error:
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
            return _too_often(wait)
        try:
            read = await read_commit(request, self._blobs, self._readers)
            return await self._advance(leaf, device, request, read, (id_, digest))
        except MLSError as error:
            return Error("invalid", detail=str(error))

    async def _advance(
        self,
        leaf: Leaf,
        device: DeviceId,
        request: MlsCreate | MlsCommit,
        read: ReadCommit,
        named: tuple[MessageId | None, bytes],
    ) -> Accepted | Error:
        """Decide and submit, again where the ground of the decision has moved meanwhile.

        Raises:
            MLSError: the commit adds what was not claimed.
        """
        while True:
            step = await self._decide(leaf, request, read)
            if isinstance(step, Error):
                return step
            wait = self._wait_to_commit(request.group, read)
            if wait:
                return _too_often(wait)
            now = self._now_ms()
            result = await self._submit(leaf, device, read, step, named, now)
            match result:
                case Advanced():
                    return Accepted(now, generation=step.after.generation, epoch=step.after.epoch)
                case EpochPassed():
                    continue  # of the server group
                case ConversationMoved() if isinstance(request, MlsCreate):
                    continue
                case _:
                    return _answer(result)

    def _wait_to_commit(self, conversation: ConversationId, read: ReadCommit) -> float:
        """Count a commit that may be; or the seconds until the conversation takes one more."""
        now = trio.current_time()
        wait = self._updates.take(conversation, 1, now) if read.declared.op == "update" else 0.0
        return wait or self._commits.take(conversation, 1, now)

    async def _decide(self, leaf: Leaf, request: MlsCreate | MlsCommit, read: ReadCommit) -> _Step | Error:
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
            return Error(checked.code, detail=checked.detail)
        if len(leaves_in(checked.slots)) > self._limits.mls_leaves:
            return Error("quota", detail=f"a conversation has at most {self._limits.mls_leaves} devices")
        after = StoredConversation(
            request.group, request.generation, read.epoch + 1, read.group_id, checked.slots, checked.roster
        )
        step = _Step(_seen(current), after, checked, claimed)
        return await self._with_group(step, current) if is_group(request.group) else step

    async def _refuses(
        self, leaf: Leaf, request: MlsCreate | MlsCommit, current: StoredConversation | None
    ) -> Error | None:
        """What can be said of a request without reading its commit, which takes long."""
        if isinstance(request, MlsCommit):
            if current is None or leaf not in current.slots:
                return NO_SUCH_CONVERSATION
            if request.generation != current.generation:
                return _conflict(current)
        elif current is not None and request.generation <= current.generation:
            return _conflict(current)
        if is_group(request.group):
            group = await self._store.group(GroupId(request.group))
            if group is None or leaf.client not in group.roles:
                return NO_SUCH_CONVERSATION
            if current is None and group.roles[leaf.client] != "admin":
                return Error("forbidden", detail="only admins of the group may encrypt it")
        return None

    async def _check(
        self,
        leaf: Leaf,
        request: MlsCreate | MlsCommit,
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
        if isinstance(request, MlsCreate) or current is None:
            last = None if current is None else current.roster
            return check_first(read.declared, proposals, leaf, request.group, logs, last, has_path=read.has_path)
        before = ConversationState(current.id, current.slots, current.roster)
        return check(read.declared, proposals, read.committer, before, logs, has_path=read.has_path)

    async def _with_group(self, step: _Step, current: StoredConversation | None) -> _Step | Error:
        """The step with the change of the server group that goes with it. A group that becomes encrypted has a new
        epoch in any case: whoever is about to change it in the clear finds out.
        """
        group = await self._store.group(GroupId(step.after.id))
        if group is None:
            return NO_SUCH_CONVERSATION
        before = {} if current is None else current.roster
        roles = group_after(group.roles, before, step.checked.roster)
        if len(roles) > self._limits.group_members:
            return Error("quota", detail=f"a group has at most {self._limits.group_members} members")
        if len(roles.keys() ^ group.roles.keys()) > CLIENTS_PER_FRAME:
            return Error("quota", detail=f"a commit adds and removes at most {CLIENTS_PER_FRAME} clients of a group")
        if roles == group.roles and current is not None:
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
    ) -> Result:
        (id_, digest), after = named, step.after
        place = (leaf.client, device, after.id, after.generation, after.epoch, now)
        told = MlsCommitted(*place, read.commit.sha256, read.commit.text, read.commit.ref)
        welcomes = [(added, MlsWelcome(*place, part.text, part.ref)) for added, part in read.welcomes(step.claimed)]

        def envelope(message: MlsCommitted | MlsWelcome | GroupChanged, its_id: MessageId | None = None) -> Envelope:
            return Envelope(message.verb, leaf.client, device, after.id, its_id, now, encode_payload(message))

        change: ChangeGroup | None = None
        frame: Callable[[], bytes] = bytes  # nobody is owed the others without a mailbox
        if step.group is not None:
            changed = _changed(step.group, leaf.client, step.roles)
            told_of_group = envelope(evolve(changed, ts=now, device=device))
            change = ChangeGroup(told_of_group, b"", step.group.epoch, step.group.name, step.roles)
            frame = partial(encode, changed)
        operation = AdvanceConversation(
            envelope(told, id_),
            digest,
            step.seen,
            after,
            step.checked.added,
            tuple((added, envelope(welcome)) for added, welcome in welcomes),
            change,
        )
        return await self._delivery.envelopes.advance(operation, frame)

    # --- messages ----------------------------------------------------------------------------------------------------

    @verb_handler
    def send(self, endpoint: Endpoint, request: MlsSend, id_: MessageId | None) -> ErrorCode | None:
        """Take an encrypted message. It is answered after its commit."""
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        fault = _fault_of(request)
        if fault is not None:
            return reply(endpoint, fault, id_)
        leaf, device = who
        message = MlsMessage(
            leaf.client, device, request.group, request.generation, request.epoch, self._now_ms(), request.data
        )
        self._delivery.envelopes.submit_encrypted(endpoint, message, leaf, id_)
        return None

    @verb_handler
    def signal(self, endpoint: Endpoint, request: MlsSignal, id_: MessageId | None) -> ErrorCode | None:
        """Hand a message to live sessions.

        Raises:
            StoreError: the conversation cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        leaf, device = who
        current = self._store.glance.conversation(request.group)
        if current is None or leaf not in current.slots:
            return reply(endpoint, NO_SUCH_CONVERSATION, id_)
        fault = _fault_of(request)
        if fault is not None:
            return reply(endpoint, fault, id_)
        if (request.generation, request.epoch) != _seen(current):
            return reply(endpoint, _conflict(current), id_)
        told = RelayedMlsSignal(leaf.client, device, request.group, request.generation, request.epoch, request.data)
        frame = encode(told)
        for other in leaves_in(current.slots):
            session = None if other == leaf else self._hub.session_of_key(other)
            if session is not None and not self._is_blocked(leaf.client, other.client, request.group):
                session.outbox.put_ephemeral(frame)
        return reply(endpoint, Accepted(self._now_ms()), id_)

    def _is_blocked(self, sender: ClientId, by: ClientId, conversation: ConversationId) -> bool:
        """Blocks hold in pairs alone, as for messages."""
        return not is_group(conversation) and sender in self._store.glance.blocks_of(by)

    # --- where things stand ------------------------------------------------------------------------------------------

    @verb_handler
    async def commits(self, endpoint: Endpoint, request: MlsCommits, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        if leaf_of(endpoint) is None:
            return reply(endpoint, NO_KEY, id_)
        current = await self._store.conversation(request.group)
        if current is None or endpoint.principal.client not in current.roster:
            return reply(endpoint, NO_SUCH_CONVERSATION, id_)
        page = await self._store.commits(request.group, request.generation, first=request.first, limit=COMMITS_PER_PAGE)
        if not page or page[0].epoch != request.first:
            return reply(endpoint, Error("not_found", detail="this commit is not kept, or not made"), id_)
        newest = await self._store.commits(request.group, request.generation, first=page[-1].epoch + 1, limit=1)
        endpoint.outbox.put(commits_text([each.payload for each in page], is_more=bool(newest), id=id_))
        return None

    @verb_handler
    async def list_groups(self, endpoint: Endpoint, request: MlsGroups, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        found = await self._store.conversations_of(who[0], after=request.after, limit=CONVERSATIONS_PER_PAGE + 1)
        page = [
            MlsGroup(each.id, each.generation, each.epoch, each.devices, each.is_in)
            for each in found[:CONVERSATIONS_PER_PAGE]
        ]
        return reply(endpoint, MlsGroupPage(page, len(found) > len(page)), id_)

    @verb_handler
    async def nack(self, endpoint: Endpoint, request: MlsNack, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        if leaf_of(endpoint) is None:
            return reply(endpoint, NO_KEY, id_)
        current = await self._store.conversation(request.group)
        if current is None or endpoint.principal.client not in current.roster:
            return reply(endpoint, NO_SUCH_CONVERSATION, id_)
        self._nacks["group" if is_group(request.group) else "pair"] += 1
        log.warning("a device cannot apply a commit", epoch=request.epoch, sha256=request.sha256)
        return reply(endpoint, Accepted(self._now_ms()), id_)

    @verb_handler
    async def rejoin(self, endpoint: Endpoint, request: MlsRejoin, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        leaf, _ = who
        now = trio.current_time()
        waits = {group: self._rejoins.take((leaf, group), 1, now) for group in dict.fromkeys(request.groups)}
        allowed = tuple(group for group, wait in waits.items() if not wait)
        if not allowed:
            return reply(endpoint, _too_often(min(waits.values())), id_)
        await self._delivery.change(leaf.client, AskToRejoin(leaf, allowed))
        return reply(endpoint, Accepted(self._now_ms()), id_)

    def statistics(self) -> ConversationStatistics:
        return ConversationStatistics(tallied("kind", {"pair": 0, "group": 0} | self._nacks))


def _seen(current: StoredConversation | None) -> tuple[int, int]:
    return (0, 0) if current is None else (current.generation, current.epoch)


def _conflict(current: StoredConversation) -> Error:
    detail = f"the conversation is in generation {current.generation}, epoch {current.epoch}"
    return Error("conflict", detail=detail, generation=current.generation, epoch=current.epoch)


def _too_often(wait_seconds: float) -> Error:
    return Error("rate_limited", retry_after_ms=int(wait_seconds * 1000) + 1)


def _contradicts(
    leaf: Leaf, request: MlsCreate | MlsCommit, read: ReadCommit, current: StoredConversation | None
) -> Error | None:
    """The commit is of another place than its frame says."""
    if isinstance(request, MlsCreate) or current is None:
        if read.epoch != 0 or read.committer != 0:
            return Error("invalid", detail="a generation begins with a commit of epoch 0 by leaf 0")
        if not Generation(request.group, request.generation).is_named_by(read.group_id):
            return Error("invalid", detail="the id of the MLS group names another generation")
        return None
    if read.epoch != current.epoch:
        return _conflict(current)
    if read.group_id != current.group_id:
        return Error("invalid", detail="a commit of another MLS group")
    if current.slots[read.committer : read.committer + 1] != (leaf,):
        return Error("invalid", detail="a commit of another device's leaf")
    return None


def _fault_of(request: MlsSend | MlsSignal) -> Error | None:
    """Something is wrong with the message itself."""
    try:
        group_id, epoch = inspect_application(from_base64url(request.data))
    except (MLSError, InvalidId) as error:
        return Error("invalid", detail=f"data: {error}")
    if epoch != request.epoch or not Generation(request.group, request.generation).is_named_by(group_id):
        return Error("invalid", detail="data: a message of another generation or epoch than the frame says")
    return None


def _answer(result: Result) -> Accepted | Error:
    """The answer to a commit that was not made."""
    match result:
        case Duplicate(ts):
            return Accepted(ts, duplicate=True)
        case IdTaken():
            return ID_TAKEN
        case ConversationMoved(generation, epoch):
            return Error("conflict", detail="another commit was first", generation=generation, epoch=epoch)
        case TooManyGroups(client):
            return Error("quota", detail="this client is in as many groups as one may be", user=client)
        case _:
            return Error("internal", detail="the commit could not be stored")


def _changed(group: Group, by: ClientId, roles: Mapping[ClientId, Role]) -> GroupChanged:
    return GroupChanged(
        group.id,
        group.epoch + 1,
        by,
        added=[client for client in roles if client not in group.roles],
        removed=[client for client in group.roles if client not in roles],
        roles=[GroupMember(client, role) for client, role in roles.items() if group.roles.get(client) != role],
    )
