"""The key of a device and the own device log, in files beside the identity's: private, and whole or refused."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client import DeviceId, DeviceKeys, Identity, KeystoreError, open_device_keys
from ironwire.client.store.device_keys import log_path
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry, sign_entry
from ironwire.protocol.devices.log_reader import Evidence, decode_evidence

ALICE, BOB = (Identity.from_seed(name * 32) for name in (b"a", b"b"))
PHONE, LAPTOP = DeviceId("phone"), DeviceId("laptop")
NOW_MS = 1_790_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the identity is; nothing here reads it."""
    return tmp_path / "identity.key"


def _added(keys: DeviceKeys, op: LogOp = LogOp.ADD) -> SignedEntry:
    return sign_entry(keys.identity, keys.log.next_entry(op, [keys.key.public_key], time_ms=NOW_MS))


def test_a_key_is_made_once_for_each_device(path: Path) -> None:
    phone = open_device_keys(path, ALICE, PHONE)
    assert open_device_keys(path, ALICE, PHONE).key.seed == phone.key.seed
    assert open_device_keys(path, ALICE, LAPTOP).key.seed != phone.key.seed
    phone.certificate.verify(phone.key.public_key, NOW_MS)
    assert phone.certificate.client == ALICE.public_key
    assert (phone.log, phone.unanswered, phone.is_logged) == (DeviceLog(ALICE.public_key), None, False)


def test_the_files_are_private_and_hold_no_key_in_the_clear(path: Path) -> None:
    keys = open_device_keys(path, ALICE, PHONE)
    keys.keep(keys.log.append(_added(keys)))
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["identity.key.log", "identity.key.phone.device"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not any(keys.key.seed.hex().encode() in file.read_bytes() for file in files)


def test_the_log_is_known_again(path: Path) -> None:
    keys = open_device_keys(path, ALICE, PHONE)
    first = _added(keys)
    keys.keep(keys.log, first)
    again = open_device_keys(path, ALICE, PHONE)
    assert (again.log, again.unanswered) == (DeviceLog(ALICE.public_key), first)
    again.keep(again.log.append(first))
    second = sign_entry(ALICE, again.log.next_entry(LogOp.REMOVE, [again.key.public_key], time_ms=NOW_MS))
    assert again.is_logged
    again.keep(again.log.append(second))
    last = open_device_keys(path, ALICE, LAPTOP)
    assert (last.log.entries, last.unanswered) == ((first, second), None)
    assert last.log.standing_of(keys.key.public_key) == "removed"


@pytest.mark.parametrize("name", ["identity.key.phone.device", "identity.key.log"])
def test_any_changed_byte_is_noticed(path: Path, name: str) -> None:
    keys = open_device_keys(path, ALICE, PHONE)
    keys.keep(keys.log.append(_added(keys)))
    file = path.with_name(name)
    whole = file.read_bytes()

    @given(st.integers(0, len(whole) - 2), st.integers(1, 255))
    def check(position: int, change: int) -> None:
        damaged = bytearray(whole)
        damaged[position] ^= change
        file.write_bytes(damaged)
        with pytest.raises(KeystoreError):
            open_device_keys(path, ALICE, PHONE)

    check()


def test_the_files_of_somebody_else_are_refused(path: Path) -> None:
    keys = open_device_keys(path, ALICE, PHONE)
    with pytest.raises(KeystoreError, match="belongs to another identity or device"):
        open_device_keys(path, BOB, PHONE)
    path.with_name("identity.key.laptop.device").write_bytes(
        path.with_name("identity.key.phone.device").read_bytes().replace(b"device=phone", b"device=laptop")
    )
    path.with_name("identity.key.laptop.device").chmod(0o600)
    with pytest.raises(KeystoreError, match="damaged"):
        open_device_keys(path, ALICE, LAPTOP)
    keys.keep(keys.log.append(_added(keys)))
    with pytest.raises(KeystoreError, match="device log of another identity"):
        open_device_keys(path, BOB, DeviceId("desk"))


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    open_device_keys(path, ALICE, PHONE)
    path.with_name("identity.key.phone.device").chmod(0o644)
    with pytest.raises(KeystoreError, match="chmod 600"):
        open_device_keys(path, ALICE, PHONE)


def test_where_nothing_can_be_written_it_is_said(path: Path) -> None:
    keys = open_device_keys(path, ALICE, PHONE)
    entry = _added(keys)
    gone = open_device_keys(path, ALICE, PHONE)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    with pytest.raises(KeystoreError, match="cannot write the key of the device"):
        open_device_keys(path, ALICE, PHONE)
    with pytest.raises(KeystoreError, match="cannot write the device log"):
        gone.keep(gone.log.append(entry))
    assert gone.log == DeviceLog(ALICE.public_key)
    with pytest.raises(KeystoreError, match="cannot write to"):
        gone.keep_evidence(Evidence(entry, entry))


def test_the_first_evidence_is_kept(path: Path) -> None:
    keys, other = open_device_keys(path, ALICE, PHONE), open_device_keys(path, ALICE, LAPTOP)
    evidence = Evidence(_added(keys), _added(other))
    where = keys.keep_evidence(evidence)
    assert keys.keep_evidence(Evidence(_added(other), _added(keys))) == where
    assert decode_evidence(ALICE.public_key, where.read_bytes()) == evidence


def test_the_log_stands_beside_the_identity(path: Path) -> None:
    assert log_path(path) == path.with_name("identity.key.log")
