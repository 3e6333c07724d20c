"""`protocol/declaration.py` against its law: one encoding for one content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidDeclaration
from ironwire.ids import ClientId
from ironwire.protocol.conversations.declaration import (
    MAGIC,
    MOST_BYTES,
    Declaration,
    decode_declaration,
    decode_roster,
    encode_roster,
    roster_hash,
)

clients = st.binary(min_size=32, max_size=32).map(lambda raw: ClientId(raw.hex()))
some = st.sets(clients, max_size=3).map(lambda found: tuple(sorted(found)))
rosters = st.dictionaries(clients, st.sampled_from(["admin", "member"]), max_size=5)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
ids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)
declarations = st.builds(
    Declaration,
    by=clients,
    op=st.sampled_from(["members", "roles", "rename", "devices", "leave", "readd", "update"]),
    add=some,
    remove=some,
    roles=rosters,
    name=st.none() | hashes,
    roster=hashes,
    re=st.none() | ids,
)


@given(declarations)
def test_what_is_declared_is_read_again(declared: Declaration) -> None:
    assert decode_declaration(declared.encode()) == declared


@given(declarations, st.data())
def test_other_bytes_declare_something_else_or_nothing(declared: Declaration, data: st.DataObject) -> None:
    encoded = declared.encode()
    at = data.draw(st.integers(0, len(encoded) - 1))
    put = data.draw(st.binary(max_size=2))
    altered = encoded[:at] + put + encoded[at + data.draw(st.integers(0, 2)) :]
    try:
        other = decode_declaration(altered)
    except InvalidDeclaration:
        return
    assert other.encode() == altered
    assert (other == declared) == (altered == encoded)


@given(st.binary() | st.text().map(lambda text: MAGIC + text.encode()))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(InvalidDeclaration):
        decode_declaration(data)


@given(rosters, rosters)
def test_equal_rosters_have_equal_hashes(one: dict[ClientId, str], other: dict[ClientId, str]) -> None:
    assert decode_roster(encode_roster(one)) == one  # type: ignore[arg-type]  # roles are literals
    assert (roster_hash(one) == roster_hash(other)) == (one == other)  # type: ignore[arg-type]  # as above


@given(st.binary(max_size=100))
def test_any_bytes_are_a_roster_in_one_form_or_none(data: bytes) -> None:
    try:
        roster = decode_roster(data)
    except InvalidDeclaration:
        return
    assert encode_roster(roster) == data


def test_a_thousand_clients_are_declared_and_not_many_more() -> None:
    many = tuple(ClientId(f"{number:064x}") for number in range(1_200))
    declared = Declaration(by=many[0], op="members", add=many[:1_000], roster="5" * 64)
    assert decode_declaration(declared.encode()) == declared
    with pytest.raises(InvalidDeclaration, match="at most 49152 bytes"):
        Declaration(by=many[0], op="members", add=many, roster="5" * 64).encode()
    with pytest.raises(InvalidDeclaration, match="declares what it is for"):
        decode_declaration(MAGIC + b" " * MOST_BYTES)
