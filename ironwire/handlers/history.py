"""A page of the history, newest first, where the server keeps one (docs/protocol.md, section 5)."""

from attrs import frozen

from ironwire.delivery.envelopes import NO_SUCH_GROUP
from ironwire.delivery.hub import Endpoint
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, GroupId, MessageId, is_group
from ironwire.store.contract.conversations import conversation_of
from ironwire.store.contract.records import HISTORY_BYTES
from ironwire.store.contract.store import Store
from ironwire.wire.codec import archived_text, history_text
from ironwire.wire.messages import Error, History
from ironwire.wire.messages.fields import ErrorCode


@frozen
class HistoryHandler:
    """Answers clients about the past."""

    _store: Store
    _is_kept: bool

    @verb_handler
    async def page(self, endpoint: Endpoint, request: History, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        page = await self._page(endpoint.principal.client, request, id_)
        if isinstance(page, Error):
            return reply(endpoint, page, id_)
        endpoint.outbox.put(page)
        return None

    async def _page(self, client: ClientId, request: History, id_: MessageId | None) -> bytes | Error:
        if not self._is_kept:
            return Error("forbidden", detail="this server keeps no history")
        if await self._store.conversation(conversation_of(client, request.peer)) is not None:
            return Error("forbidden", detail="this conversation is encrypted: there is no history of it here")
        if is_group(request.peer):
            group = await self._store.group(GroupId(request.peer))
            if group is None or client not in group.roles:
                return NO_SUCH_GROUP
        page = await self._store.read_history(client, request.peer, before=request.before, limit=request.limit)
        envelopes: list[bytes] = []
        room = HISTORY_BYTES
        for archived in page:
            envelope = archived.envelope
            text = archived_text(envelope.verb, envelope.payload, id=envelope.id)
            room -= len(text)
            if room < 0 and envelopes:
                break
            envelopes.append(text)
        is_last = len(envelopes) < request.limit and len(envelopes) == len(page)
        before = None if is_last else page[len(envelopes) - 1].number
        return history_text(request.peer, envelopes, before, id_)
