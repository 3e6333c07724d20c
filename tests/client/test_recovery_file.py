"""What an owner device keeps of its recovery: sealed, private, and whole or refused."""

from pathlib import Path

import pytest
from attrs import evolve

from ironwire.client import Identity, KeystoreError
from ironwire.client.store.recovery_file import KeptRecovery, keep_recovery, read_recovery, recovery_path
from ironwire.e2e.recovery import RecoveryCode

ALICE, BOB = (Identity.from_seed(name * 32) for name in (b"a", b"b"))
NOW_MS = 1_790_000_000_000
KEPT = KeptRecovery(RecoveryCode(bytes(range(20))), bytes(range(32)), 7, NOW_MS, NOW_MS - 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the identity is; nothing here reads it."""
    return tmp_path / "identity.key"


def test_what_is_kept_is_there_again(path: Path) -> None:
    assert read_recovery(path, ALICE) is None
    keep_recovery(path, ALICE, KEPT)
    assert read_recovery(path, ALICE) == KEPT
    keep_recovery(path, ALICE, evolve(KEPT, number=8))
    assert read_recovery(path, ALICE) == evolve(KEPT, number=8)


def test_it_is_private_and_sealed(path: Path) -> None:
    keep_recovery(path, ALICE, KEPT)
    file = recovery_path(path)
    content = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEPT.code.raw.hex().encode() not in content
    assert KEPT.archive_key.hex().encode() not in content
    assert KEPT.archive_key.hex() not in repr(KEPT)
    assert "x00" not in repr(KEPT)


@pytest.mark.parametrize("place", [0, 40, 90, 150, -3])
def test_a_changed_byte_is_noticed(path: Path, place: int) -> None:
    keep_recovery(path, ALICE, KEPT)
    file = recovery_path(path)
    content = bytearray(file.read_bytes())
    content[place] = ord("0") if content[place] != ord("0") else ord("1")
    file.write_bytes(content)
    with pytest.raises(KeystoreError, match="make a new code"):
        read_recovery(path, ALICE)


def test_of_another_identity_it_is_refused(path: Path) -> None:
    keep_recovery(path, ALICE, KEPT)
    with pytest.raises(KeystoreError, match="another identity"):
        read_recovery(path, BOB)
