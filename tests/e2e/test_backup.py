"""The encrypted backup, docs/between-devices.md, section 12.2."""

import re
from collections.abc import Callable

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.crypto.signing import Identity
from ironwire.e2e.backup import Backup, BackupContact, BackupConversation, new_backup, open_backup, seal_backup
from ironwire.e2e.recovery import RecoveryCode, parse_recovery_code
from ironwire.errors import InvalidBackup
from ironwire.limits import BACKUP_BYTES
from tests.e2e.recovery_vectors import CODE, a_backup, as_json, blob_of, statement_of
from tests.e2e.vectors import recorded
from tests.strategies import messages_of


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.lists(messages_of(BackupContact), max_size=20),
    st.lists(messages_of(BackupConversation), max_size=20),
    st.integers(1, 2**53 - 1),
)
def test_a_backup_is_read_back(
    seed: bytes, archive_key: bytes, contacts: list[BackupContact], conversations: list[BackupConversation], number: int
) -> None:
    identity = Identity.from_seed(seed)
    backup = new_backup(identity, archive_key, number=number, ts=5, contacts=contacts, conversations=conversations)
    opened = open_backup(seal_backup(backup, CODE), CODE, at_least=number)
    assert opened == backup
    assert opened.load_identity().client_id == identity.client_id


def test_the_blob_is_what_the_document_says() -> None:
    backup = a_backup()
    text = orjson.dumps(as_json(backup))
    statement = statement_of(text, backup.load_identity())
    assert open_backup(blob_of(statement + bytes(3)), CODE) == backup


def test_a_known_backup_opens() -> None:
    (known,) = recorded("backups")
    backup = open_backup(bytes.fromhex(known["blob"]), parse_recovery_code(known["code"]))
    assert orjson.loads(known["json"]) == as_json(backup)


def test_nothing_can_be_seen_in_a_blob() -> None:
    blob = seal_backup(a_backup(), CODE)
    assert a_backup().load_identity().seed not in blob
    assert b"Bob" not in blob
    assert seal_backup(a_backup(), CODE) != blob
    assert len(blob) - 4 - 24 - 16 == 768  # a padded size
    assert a_backup().identity not in repr(a_backup())
    assert a_backup().archive_key not in repr(a_backup())


def test_another_code_opens_nothing() -> None:
    with pytest.raises(InvalidBackup, match="does not open with this recovery code"):
        open_backup(seal_backup(a_backup(), CODE), RecoveryCode.generate())


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    blob = seal_backup(a_backup(), CODE)
    place, change = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(InvalidBackup):
        open_backup(blob[:place] + bytes([blob[place] ^ change]) + blob[place + 1 :], CODE)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_backup_or_refused(data: bytes, has_magic: bool) -> None:
    with pytest.raises(InvalidBackup):
        open_backup(b"IWB1" + data if has_magic else data, CODE)


@given(st.binary(max_size=200))
def test_any_bytes_under_the_right_key_are_refused_too(data: bytes) -> None:
    with pytest.raises(InvalidBackup):
        open_backup(blob_of(data), CODE)


def test_an_older_backup_than_the_last_is_refused() -> None:
    blob = seal_backup(a_backup(number=7), CODE)
    assert open_backup(blob, CODE, at_least=7).number == 7
    with pytest.raises(InvalidBackup, match="number 7, and 8 was stored"):
        open_backup(blob, CODE, at_least=8)


def test_somebody_with_the_code_but_not_the_identity_cannot_write_one() -> None:
    text = orjson.dumps(as_json(a_backup()))
    for statement in (
        statement_of(text, Identity.generate()),
        statement_of(text, a_backup().load_identity(), backup_id="00" * 16),
    ):
        with pytest.raises(InvalidBackup, match="not signed"):
            open_backup(blob_of(statement), CODE)


CHANGED: dict[str, Callable[[dict[str, object]], object]] = {
    "a device key": lambda parts: parts | {"device_key": "A" * 43},
    "a state of MLS": lambda parts: parts | {"groups": []},
    "no identity": lambda parts: {key: value for key, value in parts.items() if key != "identity"},
    "a number as a text": lambda parts: parts | {"number": "7"},
    "a list": lambda parts: [parts],
}


@pytest.mark.parametrize("name", CHANGED)
def test_other_content_is_refused(name: str) -> None:
    text = orjson.dumps(CHANGED[name](as_json(a_backup())))
    with pytest.raises(InvalidBackup):
        open_backup(blob_of(statement_of(text, a_backup().load_identity())), CODE)


def test_there_is_no_place_for_state_and_device_keys() -> None:
    names = {field.name for cls in (Backup, BackupContact, BackupConversation) for field in attrs.fields(cls)}
    assert not [name for name in names if re.search("state|device|mls|ratchet|leaf", name)]


def test_a_large_backup_fits_and_one_that_is_too_large_is_refused() -> None:
    def backup(contacts: int, name: str) -> Backup:
        known = [BackupContact(a_backup().contacts[0].who, verified=True, name=name)] * contacts
        return attrs.evolve(a_backup(), contacts=known)

    assert len(seal_backup(backup(5000, "a" * 32), CODE)) <= BACKUP_BYTES
    with pytest.raises(InvalidBackup, match="a server takes"):
        seal_backup(backup(5000, "a" * 128), CODE)
    with pytest.raises(InvalidBackup, match="larger than any"):
        open_backup(bytes(BACKUP_BYTES + 1), CODE)


def test_a_conversation_says_with_whom_it_is() -> None:
    group, pair = a_backup().conversations
    assert (group.to, pair.to) == (group.conversation, pair.peer)
    assert attrs.evolve(pair, peer=None).to is None
