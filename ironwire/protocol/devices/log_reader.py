"""A log that a reader has, next to the one that it is offered.

A server can hold back the newest entries, and it can replay; it cannot sign. So a reader never takes a log that is
shorter than its own, or different: it says so, keeps its own, and keeps the evidence.

    offered, next to the known log                              verdict
    ----------------------------------------------------------  ----------
    the same, perhaps with more behind it                       Extended
    the same, and it ends earlier                               RolledBack
    another signed entry under an index that is known           KeyCopied
    a signed entry that follows on an entry nobody has shown    Forked
"""

from collections.abc import Sequence

from attrs import frozen

from ironwire.crypto.signing import PublicKey
from ironwire.errors import InvalidLogEntry
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogHead, SignedEntry, decode_entries, encode_entries


@frozen
class Evidence:
    """Two signed entries of one client that are not of one log. Both signatures are good: anybody who has the client
    id can see for themselves.
    """

    first: SignedEntry
    second: SignedEntry

    @property
    def proves_copied_key(self) -> bool:
        """Two entries under one index: an honest device signs each index once, so somebody else has the identity key,
        or it signs on two devices that do not know of each other.
        """
        return self.first.index == self.second.index

    def encode(self) -> bytes:
        return encode_entries((self.first, self.second))


def decode_evidence(client: PublicKey, data: bytes) -> Evidence:
    """Raises:
    InvalidLogEntry: the bytes are not two signed entries of this client, or prove nothing.
    """
    match decode_entries(client, data):
        case [first, second] if first != second and _contradict(first, second):
            return Evidence(first, second)
        case _:
            raise InvalidLogEntry("the bytes are no evidence: two signed entries that contradict each other")


def _contradict(first: SignedEntry, second: SignedEntry) -> bool:
    follows = second.index == first.index + 1
    return first.index == second.index or (follows and second.entry.prev != first.head.hash)


@frozen
class Extended:
    """The offered log is the known one with `news` behind it, perhaps none."""

    log: DeviceLog
    news: tuple[SignedEntry, ...]


@frozen
class RolledBack:
    """The offered log ends before the known one: somebody hides what came after `offered`, or has lost it. None: all
    of it.
    """

    known: LogHead
    offered: LogHead | None


@frozen
class Forked:
    """The second entry of the evidence follows on another entry than the first. The entry that was signed in its place
    is not at hand.
    """

    evidence: Evidence


@frozen
class KeyCopied:
    """Two signed entries with one index."""

    evidence: Evidence


Verdict = Extended | RolledBack | Forked | KeyCopied


def examine(known: DeviceLog, offered: Sequence[SignedEntry]) -> Verdict:
    """Compare `known` with what is offered as the whole rest of the same log, from an index that may be any up to the
    next one. Rule: offer from the last known entry on, and a rollback of one entry shows.

    Raises:
        MisplacedLogEntry, InvalidLogEntry: what is offered is no part of a log: it has a hole, or forbidden changes.
    """
    news: list[SignedEntry] = []
    before: SignedEntry | None = None
    for signed in offered:
        ours = known.at(signed.index)
        if ours is not None and ours != signed:
            return KeyCopied(Evidence(ours, signed))
        if ours is None and signed.index >= known.next_index:
            news.append(signed)
        before = before or known.at(signed.index - 1)
        if before is not None and before.index + 1 == signed.index and before.head.hash != signed.entry.prev:
            return Forked(Evidence(before, signed))
        before = signed
    log = known.append(*news)
    if known.head is not None and (before is None or before.index < known.head.index):
        return RolledBack(known.head, None if before is None else before.head)
    return Extended(log, tuple(news))
