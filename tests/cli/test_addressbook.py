"""Contacts: names are the user's own, and an id always works."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.cli.addressbook import AddressBook, contacts_path, parse_name
from ironwire.errors import ConfigError, InvalidId
from ironwire.ids import ClientId

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "identity"


def test_a_contact_is_there_next_time(key: Path) -> None:
    AddressBook.beside(key).add("alice", ALICE)
    book = AddressBook.beside(key)
    assert book.address("alice") == ALICE
    assert book.label(ALICE) == "alice"
    assert book.all() == {"alice": ALICE}


def test_a_file_may_begin_with_a_byte_order_mark(key: Path) -> None:
    AddressBook.beside(key).add("alice", ALICE)
    path = contacts_path(key)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert AddressBook.beside(key).address("alice") == ALICE


def test_an_unknown_id_needs_no_name(key: Path) -> None:
    book = AddressBook.beside(key)
    assert book.address(BOB) == BOB
    assert book.address(BOB.upper()) == BOB
    assert book.label(BOB) == "b0b0b0b0…"


def test_a_name_in_another_unicode_form_is_the_same_name(key: Path) -> None:
    book = AddressBook.beside(key)
    book.add("Jose\u0301", ALICE)
    assert book.address("Jos\u00e9") == ALICE


def test_adding_again_renames_the_meaning(key: Path) -> None:
    book = AddressBook.beside(key)
    book.add("friend", ALICE)
    book.add("friend", BOB)
    assert AddressBook.beside(key).all() == {"friend": BOB}


def test_a_removed_contact_is_gone(key: Path) -> None:
    book = AddressBook.beside(key)
    book.add("alice", ALICE)
    book.remove("alice")
    assert AddressBook.beside(key).all() == {}
    with pytest.raises(InvalidId, match="no contact is named 'alice'"):
        book.remove("alice")


def test_nobody_of_that_name(key: Path) -> None:
    with pytest.raises(InvalidId, match="ironwire contacts add NAME ID"):
        AddressBook.beside(key).address("carol")


@pytest.mark.parametrize("name", ["", "a b", "-rf", ".", "#x", "a/b", "x" * 33, "\x1b[2J", "a\u202eb", "_", "a\n"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidId):
        parse_name(name)


@given(st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
def test_no_id_can_be_a_name(client_id: str) -> None:
    with pytest.raises(InvalidId):
        parse_name(client_id)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"alice": 5}', '{"alice": "x"}', '{"a b": "' + ALICE + '"}', b"\xff"]
)
def test_a_broken_file_is_named_and_left_alone(key: Path, content: str | bytes) -> None:
    file = contacts_path(key)
    file.parent.mkdir()
    before = content.encode() if isinstance(content, str) else content
    file.write_bytes(before)
    with pytest.raises(ConfigError, match=file.name):
        AddressBook.beside(key)
    assert file.read_bytes() == before


def test_contacts_of_two_identities_in_one_folder_are_apart(tmp_path: Path) -> None:
    AddressBook.beside(tmp_path / "alice.key").add("me", ALICE)
    AddressBook.beside(tmp_path / "bob.key").add("me", BOB)
    assert AddressBook.beside(tmp_path / "alice.key").all() == {"me": ALICE}


def test_a_book_that_is_open_changes_the_file_as_it_is_by_then(key: Path) -> None:
    first, second = AddressBook.beside(key), AddressBook.beside(key)
    first.add("alice", ALICE)
    second.add("bob", BOB)
    first.remove("bob")
    assert first.all() == AddressBook.beside(key).all() == {"alice": ALICE}
    with pytest.raises(InvalidId, match="is a contact already"):
        second.add("alice", BOB, is_new=True)


def test_programs_that_add_at_once_lose_nothing(key: Path) -> None:
    with ProcessPoolExecutor(4, get_context("spawn")) as programs:
        list(programs.map(partial(_add, key), range(24)))
    assert {*AddressBook.beside(key).all()} == {f"friend{number}" for number in range(24)}


def _add(key: Path, number: int) -> None:
    AddressBook.beside(key).add(f"friend{number}", BOB)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be"):
        AddressBook.beside(tmp_path / "file" / "identity").add("alice", ALICE)
