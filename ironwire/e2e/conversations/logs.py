"""Device logs of all clients, as far as this device knows them (docs/protocol.md, section 9).

A log grows by what extends it. A server that shows a shorter or another one is believed no further: what was known
stays, and the program is told. What devices say of each other's logs inside messages finds out a server that shows
different logs to different people.
"""

from collections.abc import Callable, Iterable, Mapping

from attrs import define, field

from ironwire.crypto.signing import PublicKey, is_public_key, parse_public_key
from ironwire.e2e.content import KnownHead
from ironwire.e2e.conversations.effects import Pause, SavedLog, Steps, Write, ask
from ironwire.e2e.conversations.events import DeviceLinked, EngineEvent, LogDisputed
from ironwire.errors import InvalidLogEntry
from ironwire.ids import ClientId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices import log_entry
from ironwire.protocol.devices.log import DeviceLog, DeviceStanding
from ironwire.protocol.devices.log_reader import Extended, RolledBack, Verdict, examine
from ironwire.wire.messages import DeviceLogPage, DeviceLogRead, Error
from ironwire.wire.messages.fields import is_retryable

LATER_MS = 1_000
ATTEMPTS = 20
"""While a log is asked for, nothing else of the mailbox is read; a server that never says does not stop it for ever."""


def reading(known: DeviceLog) -> Steps[Verdict | Error]:
    """Compare the log of `known.client` that the server shows with what is known of it.

    Raises:
        InvalidLogEntry: what it shows is no device log.
    """
    shown = yield from _fetching(known.client, max(known.next_index - 1, 0))
    if isinstance(shown, Error):
        return shown
    offered, head = shown
    if head is None or known.head is None:
        return examine(known, offered)
    relation = known.compare(head)
    if relation == "older":
        return RolledBack(known.head, head)
    if relation == "other":
        shown = yield from _fetching(known.client, known.first_index)
        if isinstance(shown, Error):
            return shown
        offered, _ = shown
    return examine(known, offered)


def _fetching(
    client: PublicKey, first: int
) -> Steps[tuple[list[log_entry.SignedEntry], log_entry.LogHead | None] | Error]:
    """What the server shows of a log from `first` on, and its last head; None: there is no log."""
    offered: list[log_entry.SignedEntry] = []
    while len(offered) <= log_entry.MOST_ENTRIES:
        page = yield from ask(DeviceLogRead(client.client_id, first + len(offered)), DeviceLogPage)
        if isinstance(page, Error):
            return ([], None) if page.msg == "not_found" else page
        try:
            offered += [
                log_entry.open_entry(client, bytes.fromhex(each.entry), bytes.fromhex(each.sig))
                for each in page.entries
            ]
        except ValueError as error:
            raise InvalidLogEntry(f"an entry is hex: {error}") from None
        if not page.more or not page.entries:
            return offered, log_entry.LogHead(page.index, bytes.fromhex(page.head))
    raise InvalidLogEntry(f"it has more than {log_entry.MOST_ENTRIES} entries")


@define(eq=False)
class KnownLogs:
    """The logs that this device, with the key `_device` of the client `own`, has read."""

    own: ClientId
    _device: bytes
    _write: Callable[[Write], None]
    _tell: Callable[[EngineEvent], None]
    _logs: dict[ClientId, DeviceLog] = field(factory=dict, init=False)
    _disputed: set[ClientId] = field(factory=set, init=False)
    version: int = field(default=0, init=False)
    """Grows with each log that grows."""

    def restore(self, saved: SavedLog) -> None:
        """Raises:
        InvalidLogEntry: the device's store is damaged.
        """
        client = parse_public_key(saved.client)
        self._logs[saved.client] = DeviceLog(client).append(*log_entry.decode_entries(client, saved.entries))

    def of(self, client: ClientId) -> DeviceLog:
        """The log of the client as it is known; an empty one, where nothing is."""
        log = self._logs.get(client)
        return DeviceLog(parse_public_key(client)) if log is None else log

    def has(self, client: ClientId) -> bool:
        """Whether anything of a log of this client is known."""
        return client in self._logs

    def standing_of(self, leaf: Leaf) -> DeviceStanding:
        device = self.of(leaf.client).devices.get(leaf.device)
        if device is None:
            return "unknown"
        return "current" if device.is_current else "removed"

    def devices(self, clients: Iterable[ClientId]) -> Mapping[ClientId, frozenset[bytes]]:
        """The current devices of each, as the membership check wants them."""
        return {client: frozenset(each.key.raw for each in self.of(client).current) for client in clients}

    def heads(self, clients: Iterable[ClientId]) -> list[KnownHead]:
        """What a message says of the logs of `clients`."""
        known = {client: self.of(client).head for client in clients}
        return [KnownHead(client, head.index, head.hash.hex()) for client, head in known.items() if head is not None]

    def adopt(self, log: DeviceLog) -> None:
        """The own log, as `catch_up` left it."""
        if log.next_index > self.of(self.own).next_index:
            self._extend(self.own, Extended(log, log.entries[self.of(self.own).next_index - log.first_index :]))

    # --- reading -----------------------------------------------------------------------------------------------------

    def refresh(self, client: ClientId) -> Steps[bool]:
        """Read what is new. False: the server does not say, or what it says cannot be believed."""
        if not is_public_key(client):
            return False
        try:
            verdict = yield from reading(self.of(client))
            for _ in range(ATTEMPTS):
                if not isinstance(verdict, Error) or not is_retryable(verdict.msg):
                    break
                yield Pause(verdict.retry_after_ms or LATER_MS)
                verdict = yield from reading(self.of(client))
        except InvalidLogEntry:
            self._dispute(client, None)
            return False
        match verdict:
            case Error():
                return False
            case Extended():
                self._extend(client, verdict)
                return True
            case _:
                self._dispute(client, verdict)
                return False

    def need(self, leaves: Iterable[Leaf]) -> Steps[bool]:
        """Read the logs of those leaves that are not in the known ones. Whether all are current now."""
        wanted = list(leaves)
        behind = {leaf.client for leaf in wanted if self.standing_of(leaf) == "unknown"}
        for client in sorted(behind):
            yield from self.refresh(client)
        return all(self.standing_of(leaf) == "current" for leaf in wanted)

    def hear(self, heads: Iterable[KnownHead]) -> Steps[None]:
        """Somebody says what they know of logs. Rule: a head that is not in our log, and that the server does not show,
        was shown to them alone; or ours to us.
        """
        for told in filter(lambda told: is_public_key(told.client), heads):
            head = log_entry.LogHead(told.index, bytes.fromhex(told.head))
            relation = self.of(told.client).compare(head)
            if relation == "newer":
                is_read = yield from self.refresh(told.client)
                relation = self.of(told.client).compare(head) if is_read else relation
            if relation in ("newer", "other"):
                self._dispute(told.client, None)

    def _extend(self, client: ClientId, extended: Extended) -> None:
        if not extended.news:
            return
        is_first = self.of(client).head is None
        self._logs[client] = extended.log
        self.version += 1
        self._disputed.discard(client)
        self._write(SavedLog(client, log_entry.encode_entries(extended.log.entries)))
        if client == self.own and not is_first:
            for signed in extended.news:
                if signed.entry.op is log_entry.LogOp.ADD and signed.entry.devices[0].raw != self._device:
                    self._tell(DeviceLinked(signed.entry.devices[0].raw, signed.entry.time_ms))

    def _dispute(self, client: ClientId, verdict: Verdict | None) -> None:
        """Tell it once until the log grows again."""
        if client not in self._disputed:
            self._disputed.add(client)
            self._tell(LogDisputed(client, verdict))
