"""Messages of encrypted conversations, and how devices find out where these stand (docs/protocol.md, section 10)."""

from collections import Counter
from collections.abc import Callable

import orjson
import structlog
import trio
from attrs import field, frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.encrypted import NO_KEY, NO_SUCH_CONVERSATION, fault_of, leaf_of
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.handlers.epochs import conflict_with, place_of, too_often
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, ConversationId, GroupId, MessageId, is_group, short_client
from ironwire.limits import COMMITS_PER_PAGE, CONVERSATIONS_PER_PAGE
from ironwire.protocol.bucket import Buckets, Rate
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.store.contract import operations as op
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import commits_text, encode
from ironwire.wire.messages.fields import ErrorCode

NO_SUCH_COMMIT = msg.Error("not_found", detail="this commit is not kept, or not made")

log = structlog.get_logger(__name__)

REJOINS = Rate(per_second=3 / 86_400, burst=3)
"""Of one device into one conversation: each costs a commit."""
NACKS = Rate(per_second=6 / 60, burst=6)
"""Of one device: each is a line in the log."""
_MOST_KEYS = 100_000


@frozen
class ConversationStatistics:
    nacks_total: Tallied = figure("Commits that a device could not apply, by the kind of the conversation.")


@frozen
class ConversationHandler:
    """Answers devices about encrypted conversations."""

    _hub: Hub
    _store: Store
    _delivery: Delivery
    _now_ms: Callable[[], int]
    _rejoins: Buckets[tuple[Leaf, ConversationId]] = field(init=False, factory=lambda: Buckets(REJOINS, _MOST_KEYS))
    _nacking: Buckets[Leaf] = field(init=False, factory=lambda: Buckets(NACKS, _MOST_KEYS))
    _nacks: Counter[str] = field(init=False, factory=Counter)

    # --- signals -----------------------------------------------------------------------------------------------------

    @verb_handler
    def signal(self, endpoint: Endpoint, request: msg.MlsSignal, id_: MessageId | None) -> ErrorCode | None:
        """Hand a message to live sessions.

        Raises:
            StoreError: the conversation cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        leaf, device = who
        current = self._store.glance.conversation(request.group)
        if current is None or leaf not in current.slots or self._has_left(leaf.client, request.group):
            return reply(endpoint, NO_SUCH_CONVERSATION, id_)
        fault = fault_of(request)
        if fault is not None:
            return reply(endpoint, fault, id_)
        if (request.generation, request.epoch) != place_of(current):
            return reply(endpoint, conflict_with(current), id_)
        told = msg.RelayedMlsSignal(leaf.client, device, request.group, request.generation, request.epoch, request.data)
        frame = encode(told)
        for other in leaves_in(current.slots):
            session = None if other == leaf else self._hub.session_of_key(other)
            if session is not None and not self._is_blocked(leaf.client, other.client, request.group):
                session.outbox.put_ephemeral(frame)
        return reply(endpoint, msg.Accepted(self._now_ms()), id_)

    def _has_left(self, client: ClientId, conversation: ConversationId) -> bool:
        """Whether the client has left the group, and only a commit is missing that takes it out."""
        group = self._store.glance.group(GroupId(conversation)) if is_group(conversation) else None
        return is_group(conversation) and (group is None or client not in group.roles)

    def _is_blocked(self, sender: ClientId, by: ClientId, conversation: ConversationId) -> bool:
        """Blocks hold in pairs alone, as for messages."""
        return not is_group(conversation) and sender in self._store.glance.blocks_of(by)

    # --- where things stand ------------------------------------------------------------------------------------------

    @verb_handler
    async def commits(self, endpoint: Endpoint, request: msg.MlsCommits, id_: MessageId | None) -> ErrorCode | None:
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
            return reply(endpoint, NO_SUCH_COMMIT, id_)
        newest = await self._store.commits(request.group, request.generation, first=page[-1].epoch + 1, limit=1)
        endpoint.outbox.put(commits_text([each.payload for each in page], is_more=bool(newest), id=id_))
        return None

    @verb_handler
    async def list_groups(self, endpoint: Endpoint, request: msg.MlsGroups, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        found = await self._store.conversations_of(who[0], after=request.after, limit=CONVERSATIONS_PER_PAGE + 1)
        page = [
            msg.MlsGroup(each.id, each.generation, each.epoch, each.devices, each.is_in)
            for each in found[:CONVERSATIONS_PER_PAGE]
        ]
        return reply(endpoint, msg.MlsGroupPage(page, len(found) > len(page)), id_)

    @verb_handler
    async def nack(self, endpoint: Endpoint, request: msg.MlsNack, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        current = await self._store.conversation(request.group)
        if current is None or who[0].client not in current.roster:
            return reply(endpoint, NO_SUCH_CONVERSATION, id_)
        wait = self._nacking.take(who[0], 1, trio.current_time())
        if wait:
            return reply(endpoint, too_often(wait), id_)
        page = await self._store.commits(request.group, request.generation, first=request.epoch, limit=1)
        commit = orjson.loads(page[0].payload) if page and page[0].epoch == request.epoch else {}
        if commit.get("sha256") != request.sha256:
            return reply(endpoint, NO_SUCH_COMMIT, id_)
        self._nacks["group" if is_group(request.group) else "pair"] += 1
        by, sha256 = short_client(commit["from"]), request.sha256
        log.warning("a device cannot apply a commit", committer=by, epoch=request.epoch, sha256=sha256)
        return reply(endpoint, msg.Accepted(self._now_ms()), id_)

    @verb_handler
    async def rejoin(self, endpoint: Endpoint, request: msg.MlsRejoin, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        who = leaf_of(endpoint)
        if who is None:
            return reply(endpoint, NO_KEY, id_)
        leaf, _ = who
        now = trio.current_time()
        waits = {group: self._rejoins.take((leaf, group), 1, now) for group in dict.fromkeys(request.groups)}
        if any(waits.values()):
            for group in [group for group, wait in waits.items() if not wait]:
                self._rejoins.give_back((leaf, group), 1, now)
            return reply(endpoint, too_often(max(waits.values())), id_)
        await self._delivery.change(leaf.client, op.AskToRejoin(leaf, tuple(waits)))
        return reply(endpoint, msg.Accepted(self._now_ms()), id_)

    def statistics(self) -> ConversationStatistics:
        return ConversationStatistics(tallied("kind", {"pair": 0, "group": 0} | self._nacks))
