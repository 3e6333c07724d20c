"""Brings a mailbox to its device's session: the entries that waited first, then those that come, in order, within the
window (docs/protocol.md, section 5).

    acked ≤ sent ≤ tail         three positions in one increasing numbering

    tail    the last committed entry           moves by `committed`
    sent    the last entry that went out       moves by `deliver`
    acked   the last acknowledged entry        moves by `ack`

The window lies between `acked` and `sent`: a bounded number of envelopes and bytes is unacknowledged at a time. Entries
go out in order, each once a session; a missing number is lost, and the device gets a gap for it.

A pump has no window until its device is registered: `open` gives it one, before anything that was committed after the
registration is told. An entry that is committed while the session has everything before it goes out at once, from
memory. One that comes while the session is behind waits in the store, and `run` fetches it when the device has
acknowledged enough. So nothing is held in memory for a slow device but its window. And there is a task only while there
is something to fetch: most devices are up to date, and a task that waits takes 2 KiB.
"""

from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen

from ironwire.delivery.outbox import Outbox
from ironwire.errors import IronWireError
from ironwire.store.contract.records import Envelope, MailboxId
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode, frame_text

PAGE_ENTRIES = 100


class AckBeyondDelivery(IronWireError):
    """The device acknowledged an entry that it was never sent: misuse, close with 4400."""


@frozen
class MissingEntries:
    """The entries `first` to `last`, both included, are gone."""

    first: int
    last: int


@define
class Window:
    """One session's position in its mailbox: a pure machine, without store or outbox. It starts with everything
    unacknowledged still to send.
    """

    acked: int
    tail: int
    _most_envelopes: int
    _most_bytes: int
    sent: int = field(init=False)
    _sizes: deque[tuple[int, int]] | None = field(init=False, default=None)
    """Seq and bytes of each unacknowledged entry, oldest first; None without any: an empty deque takes 0.7 KiB."""
    _bytes: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.sent = self.acked

    @property
    def is_behind(self) -> bool:
        """Whether a committed entry has not been sent."""
        return self.sent < self.tail

    @property
    def room(self) -> int:
        """How many envelopes may go out now; at least one, of any size, if nothing is unacknowledged."""
        return 0 if self._bytes >= self._most_bytes else self._most_envelopes - len(self._sizes or ())

    def committed(self, seq: int) -> None:
        """The mailbox has grown to `seq`."""
        self.tail = max(self.tail, seq)

    def deliver(self, seq: int, size: int) -> MissingEntries | None:
        """The entry `seq` goes out now; returns the gap that has to go before it. Check `room` first."""
        if seq <= self.sent:
            raise ValueError(f"entry {seq} was sent before: the last was {self.sent}")
        gap = MissingEntries(self.sent + 1, seq - 1) if seq > self.sent + 1 else None
        self.committed(seq)
        self.sent = seq
        if self._sizes is None:
            self._sizes = deque()
        self._sizes.append((seq, size))
        self._bytes += size
        return gap

    def skip(self, upto: int) -> MissingEntries | None:
        """The mailbox holds nothing up to `upto`: everything in between is lost."""
        if upto <= self.sent:
            return None
        gap = MissingEntries(self.sent + 1, upto)
        self.sent = upto
        return gap

    def ack(self, upto: int) -> int | None:
        """The device keeps everything up to `upto`. Returns the bytes that were unacknowledged; None for an old ack.

        Raises:
            AckBeyondDelivery: `upto` is above the last entry that was sent.
        """
        if upto > self.sent:
            raise AckBeyondDelivery(f"ack of {upto}, and the last delivered is {self.sent}")
        if upto <= self.acked:
            return None
        self.acked = upto
        arrived = 0
        while self._sizes and self._sizes[0][0] <= upto:
            arrived += self._sizes.popleft()[1]
        self._sizes = self._sizes or None
        self._bytes -= arrived
        return arrived


class Pump:
    """One device session's link to its mailbox."""

    mailbox: MailboxId
    session: int
    """The number of this session among those of its device, as the mailbox counts them."""
    _window: Window

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._start: Callable[[], object] | None = None
        self._is_running = False
        self._is_caught_up = False

    def open(self, mailbox: MailboxId, session: int, window: Window) -> None:
        """The device is registered: this is its mailbox, which session of it began, and the window at its position."""
        self.mailbox = mailbox
        self.session = session
        self._window = window

    def begin(self, start: Callable[[], object]) -> None:
        """The session is open. `start` is called now, and whenever the device is behind and its window has room: it
        runs `run` in a task that lives no longer than the session.
        """
        self._start = start
        self._is_running = True
        start()

    def offer(self, seq: int, envelope: Envelope, *, is_own: bool) -> None:
        """Take an entry that was committed to the mailbox just now."""
        window = self._window
        if self._is_caught_up and seq == window.sent + 1 and window.room > 0:
            self._deliver(seq, entry_text(seq, envelope, is_own=is_own))
        else:
            self.note(seq)

    def note(self, seq: int) -> None:
        """Note that the mailbox has given this number out; its entry, if there is one, is in the store."""
        self._window.committed(seq)
        self._go_on()

    def ack(self, upto: int) -> int | None:
        """The device has everything up to `upto`, which is so many bytes; None if that was known.

        Raises:
            AckBeyondDelivery: it was never sent that much.
        """
        arrived = self._window.ack(upto)
        self._go_on()
        return arrived

    async def run(self) -> None:
        """Bring the device up to date, as far as its window has room.

        Raises:
            StoreError: the mailbox cannot be read.
        """
        while self._can_fetch():
            await self._fetch()
        self._is_running = False
        if not self._window.is_behind and not self._is_caught_up:
            self._is_caught_up = True
            self._outbox.put(encode(msg.CaughtUp(seq=self._window.sent)))

    def _go_on(self) -> None:
        if self._start is not None and not self._is_running and self._can_fetch():
            self._is_running = True
            self._start()

    def _can_fetch(self) -> bool:
        return self._window.is_behind and self._window.room > 0

    async def _fetch(self) -> None:
        window = self._window
        tail = window.tail
        page = await self._store.read(self.mailbox, after=window.sent, limit=min(window.room, PAGE_ENTRIES))
        if not page:
            await self._skip(tail)
        for entry in page:
            if window.room > 0:
                await self._skip(entry.seq - 1)
                self._deliver(entry.seq, entry_text(entry.seq, entry.envelope, is_own=entry.is_own))

    async def _skip(self, upto: int) -> None:
        """Report the numbers up to `upto` that were not sent as lost, with the reason."""
        first = self._window.sent + 1
        if first <= upto:
            # Asked before the window moves: what is committed meanwhile must not go out before the gap.
            losses = await self._store.losses(self.mailbox, first, upto)
            self._window.skip(upto)
            for loss in losses:
                groups = [*loss.groups] or None
                self._outbox.put(encode(msg.Gap(loss.first, loss.last, loss.reason, groups, loss.more_groups)))

    def _deliver(self, seq: int, text: bytes) -> None:
        self._window.deliver(seq, len(text))
        self._outbox.put(text)


def entry_text(seq: int, envelope: Envelope, *, is_own: bool) -> bytes:
    """The frame that delivers an entry. The copy for the sender's own device says whom the envelope went to."""
    payload = envelope.payload
    if is_own:
        payload = payload[:-1] + b',"to":"' + envelope.to.encode() + b'"}'
    return frame_text(envelope.verb, payload, id=envelope.id, seq=seq)
