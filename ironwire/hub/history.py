"""A page of what was said before, the newest first, where the server keeps it (docs/protocol.md, section 5)."""

from attrs import frozen

from ironwire.hub.delivery import NO_SUCH_GROUP
from ironwire.hub.hub import Attachment
from ironwire.ids import ClientId, GroupId, MessageId, is_group
from ironwire.store.base import Store
from ironwire.wire.codec import archived_text, encode, history_text
from ironwire.wire.messages import Error, History

PAGE_BYTES = 256 * 1024
"""A page ends early when it has this many: it must fit into an outbox, and into what clients take."""


@frozen
class HistoryDesk:
    """Answers what clients ask about the past."""

    _store: Store
    _is_kept: bool

    async def answer(self, asker: Attachment, request: History, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Raises:
        StoreError: the store cannot be read.
        """
        asker.outbox.put(await self._page(asker.principal.client, request, id))

    async def _page(self, client: ClientId, request: History, id: MessageId | None) -> bytes:  # noqa: A002  # as above
        if not self._is_kept:
            return encode(Error("forbidden", detail="this server keeps no history"), id)
        if is_group(request.peer):
            group = self._store.group(GroupId(request.peer))
            if group is None or client not in group.roles:
                return encode(NO_SUCH_GROUP, id)
        page = await self._store.read_history(client, request.peer, before=request.before, limit=request.limit)
        envelopes: list[bytes] = []
        room = PAGE_BYTES
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
