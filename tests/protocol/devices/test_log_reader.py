"""A reader notices a server that hides, replays or replaces entries, and an identity key that signs twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.errors import InvalidLogEntry
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry, sign_entry
from ironwire.protocol.devices.log_reader import (
    Extended,
    Forked,
    KeyCopied,
    RolledBack,
    Verdict,
    decode_evidence,
    examine,
)
from tests.protocol.devices.vectors import Case, cases, entries_in, known_in

ALICE = Identity.from_seed(b"alice".ljust(32))
CLIENT = ALICE.public_key
NOW_MS = 1_790_000_000_000
VERDICTS: dict[str, type[Verdict]] = {
    "extended": Extended,
    "rolled_back": RolledBack,
    "forked": Forked,
    "key_copied": KeyCopied,
}


@pytest.mark.parametrize("case", cases("readings"))
def test_a_reading(case: Case) -> None:
    known = known_in(case)
    client, offered = entries_in(case, "offered")
    if case["verdict"] == "refused":
        with pytest.raises(InvalidLogEntry):
            examine(known, offered)
        return
    verdict = examine(known, offered)
    assert type(verdict) is VERDICTS[case["verdict"]]
    match verdict:
        case Extended(log, news):
            assert log.entries == known.entries + news
            assert log.head == (offered[-1].head if offered else known.head)
        case RolledBack(ours, theirs):
            assert ours == known.head
            assert theirs == (offered[-1].head if offered else None)
        case Forked(evidence) | KeyCopied(evidence):
            assert evidence.proves_copied_key == isinstance(verdict, KeyCopied)
            assert decode_evidence(client, evidence.encode()) == evidence
            assert evidence.second in offered


def test_evidence_is_checked_by_whoever_gets_it() -> None:
    log, other = _log([1, 2, 3]), _log([1, 4, 5])
    evidence = examine(log, other.entries)
    assert isinstance(evidence, KeyCopied)
    data = evidence.evidence.encode()
    stranger = Identity.from_seed(b"mallory".ljust(32)).public_key
    harmless = [entry.encode() for entry in log.entries]
    for client, claimed in [
        (stranger, data),
        (CLIENT, data[:-1]),
        (CLIENT, b""),
        (CLIENT, harmless[0]),
        (CLIENT, harmless[0] * 2),
        (CLIENT, harmless[0] + harmless[1]),
        (CLIENT, harmless[1] + harmless[0]),
        (CLIENT, harmless[0] + harmless[2]),
        (CLIENT, data + harmless[0]),
    ]:
        with pytest.raises(InvalidLogEntry):
            decode_evidence(client, claimed)


def test_two_signatures_on_one_entry_are_two_entries() -> None:
    """No honest program makes them: Ed25519 gives one signature."""
    log = _log([1])
    (only,) = log.entries
    twin = SignedEntry(only.entry, bytes(64))
    assert isinstance(examine(log, [twin]), KeyCopied)


_numbers = st.integers(1, 40)


def _log(numbers: list[int]) -> DeviceLog:
    """Devices with these numbers are added; one that is there is removed."""
    log = DeviceLog(CLIENT)
    for number in numbers:
        key = DeviceKey.from_seed(bytes([number]) * 32).public_key
        op = {"unknown": LogOp.ADD, "current": LogOp.REMOVE, "removed": None}[log.standing_of(key)]
        if op is not None:
            log = log.append(sign_entry(ALICE, log.next_entry(op, [key], time_ms=NOW_MS)))
    return log


@given(st.lists(_numbers, max_size=8), st.data())
def test_every_prefix_is_extended_by_the_whole(numbers: list[int], data: st.DataObject) -> None:
    whole = _log(numbers)
    entries = whole.entries
    have = data.draw(st.integers(0, len(entries)))
    asked = data.draw(st.integers(0, max(have - 1, 0)))
    prefix = DeviceLog(CLIENT).append(*entries[:have])
    assert examine(prefix, entries[asked:]) == Extended(whole, entries[have:])
    if have < len(entries):
        assert whole.head is not None
        assert examine(whole, entries[:have]) == RolledBack(whole.head, prefix.head)


@given(st.lists(_numbers, max_size=5), st.lists(_numbers, max_size=4), st.lists(_numbers, max_size=4))
def test_of_two_histories_neither_is_taken_for_the_other(common: list[int], one: list[int], another: list[int]) -> None:
    first, second = _log(common + one), _log(common + another)
    verdict = examine(first, second.entries)
    ours, theirs = first.entries, second.entries
    if theirs[: len(ours)] == ours:
        assert verdict == Extended(second, theirs[len(ours) :])
    elif ours[: len(theirs)] == theirs:
        assert isinstance(verdict, RolledBack)
    else:
        assert isinstance(verdict, KeyCopied)
        assert verdict.evidence.proves_copied_key
