"""A device log takes what its owner signed, in order, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ironwire.crypto.signing import DeviceKey, Identity, PublicKey, parse_public_key
from ironwire.errors import InvalidLogEntry, MisplacedLogEntry
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import (
    FIRST_PREV,
    MOST_DEVICES,
    MOST_ENTRIES,
    MOST_ENTRY_BYTES,
    LogEntry,
    LogHead,
    LogOp,
    decode_entries,
    encode_entries,
    open_entry,
    sign_entry,
)
from tests.protocol.devices.vectors import Case, cases, entries_in, known_in, opened

ALICE, MALLORY = (Identity.from_seed(name.ljust(32)) for name in (b"alice", b"mallory"))
CLIENT = ALICE.public_key
KEYS = [DeviceKey.from_seed(bytes([number]) * 32).public_key for number in range(6)]
PHONE, LAPTOP, *_ = KEYS
NOW_MS = 1_790_000_000_000


def _signed(log: DeviceLog, op: LogOp, *devices: PublicKey, is_owner: bool = False) -> DeviceLog:
    entry = log.next_entry(op, devices, time_ms=NOW_MS + log.next_index, is_owner=is_owner)
    return log.append(sign_entry(ALICE, entry))


def _two() -> DeviceLog:
    return _signed(_signed(DeviceLog(CLIENT), LogOp.ADD, PHONE, is_owner=True), LogOp.ADD, LAPTOP)


# --- cases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("entries"))
def test_an_entry(case: Case) -> None:
    client = parse_public_key(case["client"])
    if case["verdict"] == "refused":
        with pytest.raises(InvalidLogEntry):
            opened(client, case)
        return
    signed = opened(client, case)
    entry = signed.entry
    assert (entry.index, entry.prev.hex(), entry.op) == (case["index"], case["prev"], case["op"])
    assert (entry.is_owner, entry.time_ms) == (case["is_owner"], case["time"])
    assert [device.raw.hex() for device in entry.devices] == case["devices"]
    assert signed.head == LogHead(case["index"], bytes.fromhex(case["head"]))
    assert entry.encode().hex() == case["entry"]
    assert signed.encode().hex() == case["entry"] + case["sig"]


@pytest.mark.parametrize("case", cases("logs"))
def test_a_log(case: Case) -> None:
    client, entries = entries_in(case, "entries")
    good, rest = entries[: case["taken"]], entries[case["taken"] :]
    log = DeviceLog(client).append(*good)
    assert {device.key.raw.hex() for device in log.current} == set(case["current"])
    removed = [device for device in log.devices.values() if not device.is_current]
    assert {device.key.raw.hex() for device in removed} == set(case["removed"])
    if rest:
        with pytest.raises(InvalidLogEntry) as refusal:
            log.append(*rest)
        assert isinstance(refusal.value, MisplacedLogEntry) == (case["fault"] == "misplaced")


@pytest.mark.parametrize("case", cases("heads"))
def test_a_head(case: Case) -> None:
    assert known_in(case).compare(LogHead.from_json(case["head"])) == case["relation"]


# --- one entry -------------------------------------------------------------------------------------------------------


def test_nobody_signs_in_the_log_of_another() -> None:
    entry = DeviceLog(CLIENT).next_entry(LogOp.ADD, [PHONE], time_ms=NOW_MS)
    with pytest.raises(InvalidLogEntry, match="another client"):
        sign_entry(MALLORY, entry)
    foreign = sign_entry(ALICE, entry)
    with pytest.raises(InvalidLogEntry, match="another client"):
        DeviceLog(MALLORY.public_key).append(foreign)


_times = st.integers(0, 2**53 - 1)
_prevs = st.binary(min_size=32, max_size=32).filter(any)


@st.composite
def _entries(draw: st.DrawFn) -> LogEntry:
    index = draw(st.integers(0, MOST_ENTRIES - 1))
    op = draw(st.sampled_from(LogOp))
    chosen = draw(st.sets(st.sampled_from(range(len(KEYS))), min_size=1, max_size=len(KEYS)))
    devices = sorted((KEYS[number] for number in chosen), key=lambda key: key.raw)
    named = devices if op is LogOp.SNAPSHOT else devices[:1]
    is_owner = op is not LogOp.REMOVE and draw(st.booleans())
    prev = draw(_prevs) if index else FIRST_PREV
    return LogEntry(CLIENT, index, prev, op, is_owner, draw(_times), tuple(named))


@given(_entries())
def test_a_signed_entry_is_opened_as_it_was(entry: LogEntry) -> None:
    signed = sign_entry(ALICE, entry)
    assert open_entry(CLIENT, entry.encode(), signed.signature) == signed


@given(_entries(), st.data())
def test_an_entry_with_another_byte_is_refused(entry: LogEntry, data: st.DataObject) -> None:
    signed = sign_entry(ALICE, entry)
    changed = bytearray(signed.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidLogEntry):
        open_entry(CLIENT, bytes(changed[:-64]), bytes(changed[-64:]))


@given(st.binary(max_size=300), st.binary(max_size=70))
def test_any_bytes_are_refused(entry: bytes, signature: bytes) -> None:
    with pytest.raises(InvalidLogEntry):
        open_entry(CLIENT, entry, signature)


@given(st.lists(_entries(), max_size=4), st.binary(min_size=1, max_size=200))
def test_entries_are_kept_one_after_the_other(entries: list[LogEntry], rest: bytes) -> None:
    signed = [sign_entry(ALICE, entry) for entry in entries]
    data = encode_entries(signed)
    assert decode_entries(CLIENT, data) == signed
    with pytest.raises(InvalidLogEntry):
        decode_entries(CLIENT, data + rest)
    if data:
        with pytest.raises(InvalidLogEntry):
            decode_entries(CLIENT, data[:-1])


@pytest.mark.parametrize(
    "value",
    [
        *(None, "00", [], [0], [0, "00" * 32, 0], ["00" * 32, 0]),
        *([number, "00" * 32] for number in (True, -1, MOST_ENTRIES, "0", 0.0)),
        *([0, digits] for digits in ("00" * 31, "00" * 33, "0 " * 32, "AA" * 32, "xx" * 32, "00" * 32 + "\n")),
    ],
)
def test_what_is_no_head_is_refused(value: object) -> None:
    with pytest.raises(InvalidLogEntry, match="head of a device log"):
        LogHead.from_json(value)


@given(st.integers(0, MOST_ENTRIES - 1), st.binary(min_size=32, max_size=32))
def test_a_head_travels_as_json(index: int, digest: bytes) -> None:
    head = LogHead(index, digest)
    assert LogHead.from_json(head.to_json()) == head


# --- the chain -------------------------------------------------------------------------------------------------------


def test_a_refused_entry_leaves_the_log_as_it_was() -> None:
    log = _two()
    stray = sign_entry(ALICE, _signed(log, LogOp.REMOVE, LAPTOP).next_entry(LogOp.ADD, KEYS[2:3], time_ms=NOW_MS))
    good = sign_entry(ALICE, log.next_entry(LogOp.ADD, KEYS[3:4], time_ms=NOW_MS))
    with pytest.raises(MisplacedLogEntry):
        log.append(good, good, stray)
    assert log == _two()
    assert log.standing_of(KEYS[3]) == "unknown"


def test_what_the_rules_forbid_cannot_be_written() -> None:
    log = _signed(_two(), LogOp.REMOVE, LAPTOP)
    for op, devices in [
        (LogOp.ADD, [PHONE]),
        (LogOp.ADD, [LAPTOP]),
        (LogOp.REMOVE, [LAPTOP]),
        (LogOp.REMOVE, [KEYS[2]]),
        (LogOp.SNAPSHOT, [PHONE, LAPTOP]),
    ]:
        with pytest.raises(InvalidLogEntry):
            log.next_entry(op, devices, time_ms=NOW_MS)


def test_a_device_keeps_its_role_in_a_snapshot() -> None:
    log = _signed(_two(), LogOp.SNAPSHOT, PHONE, LAPTOP, KEYS[2], is_owner=True)
    assert [device.is_owner for device in log.current] == [True, False, True]
    assert [device.key for device in log.current] == [PHONE, LAPTOP, KEYS[2]]


def test_a_device_that_a_snapshot_leaves_out_is_removed_at_its_time() -> None:
    log = _signed(_two(), LogOp.SNAPSHOT, KEYS[2], is_owner=True)
    assert [log.standing_of(key) for key in KEYS[:4]] == ["removed", "removed", "current", "unknown"]
    assert [log.devices[key.raw].removed_ms for key in KEYS[:3]] == [NOW_MS + 2, NOW_MS + 2, None]
    again = _signed(log, LogOp.SNAPSHOT, KEYS[2])
    assert again.devices == log.devices


def test_a_client_has_as_many_devices_as_a_snapshot_can_name() -> None:
    keys = [DeviceKey.from_seed(number.to_bytes(32, "big")).public_key for number in range(MOST_DEVICES + 1)]
    log = _signed(DeviceLog(CLIENT), LogOp.SNAPSHOT, *keys[:MOST_DEVICES])
    assert len(log.entries[0].encode()) == MOST_ENTRY_BYTES + 64
    assert decode_entries(CLIENT, encode_entries(log.entries)) == list(log.entries)
    with pytest.raises(InvalidLogEntry, match="255 devices at most"):
        log.next_entry(LogOp.ADD, keys[MOST_DEVICES:], time_ms=NOW_MS)


def test_a_log_is_full_some_time() -> None:
    last = LogEntry(CLIENT, MOST_ENTRIES - 1, b"\1" * 32, LogOp.SNAPSHOT, False, NOW_MS, (PHONE,))
    log = DeviceLog(CLIENT).append(sign_entry(ALICE, last))
    with pytest.raises(InvalidLogEntry, match="4096 entries at most"):
        log.next_entry(LogOp.ADD, [LAPTOP], time_ms=NOW_MS)


class LogMachine(RuleBasedStateMachine):
    """A log next to a model of it: who was added and who was removed."""

    def __init__(self) -> None:
        super().__init__()
        self.log = DeviceLog(CLIENT)
        self.current: set[PublicKey] = set()
        self.removed: set[PublicKey] = set()

    @rule(op=st.sampled_from(LogOp), chosen=st.sets(st.sampled_from(KEYS), min_size=1), is_owner=st.booleans())
    def change(self, op: LogOp, chosen: set[PublicKey], is_owner: bool) -> None:
        devices = chosen if op is LogOp.SNAPSHOT else set(list(chosen)[:1])
        allowed = {
            LogOp.ADD: not devices & (self.current | self.removed),
            LogOp.REMOVE: devices <= self.current,
            LogOp.SNAPSHOT: not devices & self.removed,
        }[op]
        if not allowed:
            with pytest.raises(InvalidLogEntry):
                self.log.next_entry(op, devices, time_ms=NOW_MS)
            return
        self.log = _signed(self.log, op, *devices, is_owner=is_owner and op is not LogOp.REMOVE)
        if op is LogOp.ADD:
            self.current |= devices
        else:
            gone = devices if op is LogOp.REMOVE else self.current - devices
            self.removed |= gone
            self.current = (self.current | devices) - gone

    @invariant()
    def has_the_devices_of_the_model(self) -> None:
        assert {device.key for device in self.log.current} == self.current
        standings = {key for key in KEYS if self.log.standing_of(key) == "removed"}
        assert standings == self.removed

    @invariant()
    def is_read_again_from_its_bytes(self) -> None:
        read = DeviceLog(CLIENT).append(*decode_entries(CLIENT, encode_entries(self.log.entries)))
        assert read == self.log
        assert read.devices == self.log.devices


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=30, stateful_step_count=12)
