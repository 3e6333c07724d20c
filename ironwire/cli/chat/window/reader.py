"""Reads the device's file for the chat window, and tells others what was delivered and read."""

import trio
from attrs import define, evolve, field

from ironwire.cli.chat.group_names import GroupNames
from ironwire.cli.chat.window.events import GroupsNamed, Listed, Paged, PagedBefore
from ironwire.cli.chat.window.model import ListRow, Thread
from ironwire.cli.chat.window.update import PAGE_ENTRIES, LiveState
from ironwire.client import Client, DeliveredFile, DeliveredText, HistoryEntry
from ironwire.ids import Address, ClientId, MessageId, is_group
from ironwire.wire.messages import Receipt, ReceiptState

_REFRESH_SECONDS = 0.05
"""The shortest time between two reads of the file, however much comes."""
_MOST_LOADED = 1_000
"""Entries of the open conversation that are read again when something in it may have changed."""
_RECEIPT_IDS = 100


@define(eq=False)
class FileReader:
    """`run` it in one task, after `begin`."""

    _client: Client
    _live: LiveState
    names: GroupNames = field(init=False)
    _stale: trio.Event = field(factory=trio.Event, init=False)
    _delivered: dict[ClientId, list[MessageId]] = field(factory=dict, init=False)
    """Messages whose senders have not got a receipt yet."""
    _read_early: set[tuple[Address, MessageId]] = field(factory=set, init=False)
    """Messages that were read from the file, and may still come as events."""

    def __attrs_post_init__(self) -> None:
        self.names = GroupNames(self._client, lambda names: self._live.dispatch(GroupsNamed(names)))
        self.note_stale()

    def note_stale(self) -> None:
        """Something has changed in the file, or other parts of it are to be shown."""
        self._stale.set()

    def note_delivered(self, sender: ClientId, message_id: MessageId) -> None:
        """A message came, of whose delivery its sender is to be told, unless it has been read by then."""
        if (sender, message_id) in self._read_early:
            self._read_early.remove((sender, message_id))
        else:
            self._delivered.setdefault(sender, []).append(message_id)

    async def begin(self) -> None:
        """Read once. Before the window is drawn: a key finds nothing in a list that is not there."""
        await self._read()
        await self.names.restore()

    async def run(self, nursery: trio.Nursery) -> None:
        """Read, for ever; questions to the server are asked in `nursery`."""
        while True:
            await self._stale.wait()
            self._stale = trio.Event()
            await self._read()
            nursery.start_soon(self.names.look_up, self._strangers())
            await trio.sleep(_REFRESH_SECONDS)

    def _strangers(self) -> list[Address]:
        state = self._live.state
        return [row.peer for row in state.rows if not state.is_known(row.peer)]

    async def read_before(self, peer: Address, before: int) -> None:
        """Read the page before the entry `before`."""
        entries = await self._client.history(peer, PAGE_ENTRIES, before=before)
        self._live.dispatch(PagedBefore(peer, before, tuple(entries), len(entries) < PAGE_ENTRIES))

    async def _read(self) -> None:
        client, live = self._client, self._live
        peer = live.state.open
        entries: list[HistoryEntry] = []
        if peer is not None:
            limit = self._page_entries(live.state.threads[peer])
            entries = await client.history(peer, limit)
            live.dispatch(Paged(peer, tuple(entries), len(entries) < limit))
        rows = [ListRow(each.peer, each.last, each.unread) for each in await client.conversations()]
        if peer is not None and peer == live.state.open and live.state.is_read:
            unread = next((row.unread for row in rows if row.peer == peer), 0)
            rows = [evolve(row, unread=0) if row.peer == peer else row for row in rows]
            await self._note_read(peer, entries, unread)
        delivered, self._delivered = self._delivered, {}
        for sender, ids in delivered.items():
            await self._send_receipts(sender, ids, "delivered")
        listed = {row.peer for row in rows}
        others = dict.fromkeys([*([peer] if peer else []), *live.state.book.all().values()])
        rows += [ListRow(other) for other in others if other not in listed]
        live.dispatch(Listed(tuple(rows), client.waiting))

    def _page_entries(self, thread: Thread) -> int:
        """How many entries to read: all that are loaded, because the state of any may have changed, and all that are
        unread, because their senders are told.
        """
        row = self._live.state.row(thread.peer)
        loaded = len(thread.entries) + PAGE_ENTRIES if thread.position else PAGE_ENTRIES
        return min(max(loaded, row.unread if row else 0), _MOST_LOADED)

    async def _note_read(self, peer: Address, entries: list[HistoryEntry], unread: int) -> None:
        if not entries or not unread:
            return
        theirs = [
            entry
            for entry in entries
            if entry.message.device
            and isinstance(entry.message, DeliveredText | DeliveredFile)
            and entry.message.sender == peer
        ]
        ids = [entry.id for entry in theirs[-unread:] if entry.id is not None]
        if not is_group(peer):
            known = {*self._delivered.pop(ClientId(peer), [])}
            self._read_early.update((peer, message_id) for message_id in ids if message_id not in known)
            # Groups get no receipts: every member would send one for each message.
            await self._send_receipts(ClientId(peer), ids, "read")
        await self._client.mark_read(peer, entries[-1].number)

    async def _send_receipts(self, to: ClientId, ids: list[MessageId], state: ReceiptState) -> None:
        for start in range(0, len(ids), _RECEIPT_IDS):
            await self._client.queue(Receipt(to, ids[start : start + _RECEIPT_IDS], state))
