"""A page of what was said before, the newest first, where the server keeps it (docs/protocol.md, section 5)."""

from attrs import frozen

from ironwire.delivery.delivery import NO_SUCH_GROUP
from ironwire.delivery.hub import Endpoint
from ironwire.ids import ClientId, GroupId, MessageId, is_group
from ironwire.store.contract.history import HISTORY_BYTES
from ironwire.store.contract.store import Store
from ironwire.wire.codec import archived_text, encode, history_text
from ironwire.wire.messages import Error, History
from ironwire.wire.messages.fields import ErrorCode


@frozen
class HistoryHandler:
    """Answers what clients ask about the past."""

    _store: Store
    _is_kept: bool

    async def answer(self, endpoint: Endpoint, request: History, id: MessageId | None) -> ErrorCode | None:  # noqa: A002  # the frame's
        """Returns the code of the error that was the answer, if it was one.

        Raises:
            StoreError: the store cannot be read.
        """
        page = await self._page(endpoint.principal.client, request, id)
        endpoint.outbox.put(encode(page, id) if isinstance(page, Error) else page)
        return page.msg if isinstance(page, Error) else None

    async def _page(self, client: ClientId, request: History, id: MessageId | None) -> bytes | Error:  # noqa: A002  # as above
        if not self._is_kept:
            return Error("forbidden", detail="this server keeps no history")
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
        return history_text(request.peer, envelopes, before, id)
