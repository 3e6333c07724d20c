"""Any bytes at all, as a certificate and as entries of a device log, signed for good.

What it proves, for every input, is that a decoder

- gives a value or raises the one error of its kind, and nothing else;
- understood the input: what it gave encodes to the same bytes;

and that a log takes an entry or refuses it and stays as it was, and that every verdict on two logs is one that the
entries themselves show.
"""

from contextlib import suppress

from ironwire.crypto.signing import public_key_from
from ironwire.errors import InvalidCertificate, InvalidLogEntry
from ironwire.protocol.devices.certificate import decode_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import SignedEntry, decode_entries, encode_entries
from ironwire.protocol.devices.log_reader import Extended, Forked, KeyCopied, RolledBack, decode_evidence, examine
from tests.vectors.devices import (
    ADD_LAPTOP,
    ADD_PHONE,
    ALICE,
    CLIENT,
    LAPTOP,
    ONLY_WATCH,
    PHONE,
    WATCH,
    certificate,
    chain,
    head,
    raw_entry,
    signed,
)

KEYS = [PHONE, LAPTOP, WATCH]
_PAIRS = chain([ADD_PHONE, ADD_LAPTOP, ONLY_WATCH])
LOG = [entry + signature for entry, signature in _PAIRS]
"""Entries that follow on each other."""
HEADS = [head(pair) for pair in _PAIRS]

_KEY = public_key_from(CLIENT)
_KNOWN = DeviceLog(_KEY).append(*decode_entries(_KEY, b"".join(LOG[:2])))


def signed_entry(
    index: int, prev: bytes, op: int, devices: list[bytes], *, flags: int, time: int, count: int | None
) -> bytes:
    """An entry that its client has signed, whatever it says."""
    entry = raw_entry(index, prev, op, devices, flags=flags, time=time, count=count)
    return b"".join(signed(entry))


def certified(device: bytes, not_after: int) -> bytes:
    return certificate(ALICE, device, not_after)


def one(data: bytes) -> None:
    """Raises:
    AssertionError: a law above is broken.
    """
    with suppress(InvalidCertificate):
        assert decode_certificate(data).encode() == data, "another certificate came back"
    try:
        entries = decode_entries(_KEY, data)
    except InvalidLogEntry:
        return
    assert encode_entries(entries) == data, "other entries came back"
    for known in (DeviceLog(_KEY), _KNOWN):
        _append(known, entries)
        _examine(known, entries)


def _append(known: DeviceLog, entries: list[SignedEntry]) -> None:
    log = known
    for entry in entries:
        try:
            longer = log.append(entry)
        except InvalidLogEntry:
            continue
        assert longer.entries == (*log.entries, entry), "the log has something else"
        assert longer.standing_of(entry.entry.devices[0]) != "unknown", "the entry did nothing"
        log = longer


def _examine(known: DeviceLog, entries: list[SignedEntry]) -> None:
    try:
        verdict = examine(known, entries)
    except InvalidLogEntry:
        return
    match verdict:
        case Extended(log, news):
            assert log.entries == known.entries + news, "known entries were lost"
        case RolledBack(ours, theirs):
            assert theirs is None or theirs.index < ours.index, "nothing is hidden"
        case Forked(evidence) | KeyCopied(evidence):
            again = decode_evidence(_KEY, evidence.encode())
            assert again.proves_copied_key == isinstance(verdict, KeyCopied), "the evidence shows something else"
