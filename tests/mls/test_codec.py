"""The presentation language: one encoding for each value, and only `MLSError` for anything else."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironwire.errors import MLSError
from ironwire.mls import MLSGroup, Policy
from ironwire.mls.codec import Cursor, Fixed, Optional, Select, Struct, Uint, length_prefix, opaque
from ironwire.mls.framing import MLSMessage, envelope, open_envelope
from ironwire.mls.messages import Commit, GroupSecrets, MLSGroupInfo, RemoveProposal
from ironwire.mls.nodes import KeyPackage, LeafNode, RequiredCapabilities
from ironwire.mls.public import cut_welcome, inspect_application, inspect_commit, open_key_package
from ironwire.mls.tree import Tree
from tests.mls.crew import Device, Stored, crew, stored
from tests.mls.strategies import messages, structs

STRUCTS: list[type[Struct]] = [MLSGroupInfo, GroupSecrets, KeyPackage, LeafNode, Commit, RequiredCapabilities]


@settings(max_examples=20)
@given(message=messages())
def test_a_message_comes_back(message: MLSMessage) -> None:
    assert MLSMessage.decode(message.encode()) == message


@pytest.mark.parametrize("struct", STRUCTS)
@settings(max_examples=10)
@given(data=st.data())
def test_a_struct_comes_back(struct: type[Struct], data: st.DataObject) -> None:
    value = data.draw(structs(struct))
    assert struct.decode(value.encode()) == value


def real() -> list[bytes]:
    """A message of each kind."""
    alice, bob, carol = crew("alice", "bob", "carol")
    own = Device("dave").package()
    info = MLSGroupInfo(alice.group._epoch.context, (), b"tag", 0, b"signature")
    pending = alice.group.commit(add=[own.public], remove=[carol.leaf])
    return [pending.commit, pending.welcome, own.public, bob.group.encrypt(b"x"), envelope(info), alice.group.tree()]


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """The encoding of a message, with some bytes changed, left out or put in."""
    encoded = draw(st.sampled_from(REAL))
    place = draw(st.integers(0, len(encoded)))
    return encoded[:place] + draw(st.binary(max_size=3)) + encoded[place + draw(st.integers(0, 3)) :]


REAL = real()


@given(data=st.binary(max_size=200) | altered())
def test_every_value_has_one_encoding(data: bytes) -> None:
    for decode in (MLSMessage.decode, Tree.decode):
        try:
            message = decode(data)
        except MLSError:
            continue
        assert message.encode() == data


DECODERS: list[Callable[[bytes], object]] = [
    open_envelope,
    inspect_commit,
    inspect_application,
    open_key_package,
    cut_welcome,
    Tree.decode,
    *[struct.decode for struct in STRUCTS],
]


@given(data=st.binary(max_size=200) | altered())
def test_a_decoder_raises_nothing_else(data: bytes) -> None:
    for decode in DECODERS:
        with suppress(MLSError):
            decode(data)


STATES = [stored(device.group) for device in crew("alice", "bob")]


@given(
    state=st.sampled_from(STATES),
    part=st.integers(0, 1),
    place=st.integers(0, max(len(part) for state in STATES for part in state)),
    left_out=st.integers(0, 4),
    put_in=st.binary(max_size=4),
)
def test_a_broken_state_raises_nothing_else(state: Stored, part: int, place: int, left_out: int, put_in: bytes) -> None:
    hurt = state[part][:place] + put_in + state[part][place + left_out :]
    broken = (state[0], hurt) if part else (hurt, state[1])
    try:
        group = MLSGroup.restore(*broken, Device("alice").key, Policy())
    except MLSError:
        return
    assert stored(group) == broken


@given(length=st.integers(0, (1 << 30) - 1) | st.sampled_from([0, 63, 64, 16383, 16384, (1 << 30) - 1]))
def test_a_length_comes_back_and_is_as_short_as_it_can_be(length: int) -> None:
    encoded = length_prefix(length)
    assert Cursor.over(encoded).length() == length
    assert len(encoded) == (1 if length < 64 else 2 if length < 16384 else 4)


def test_a_length_of_eight_bytes() -> None:
    with pytest.raises(MLSError, match="a length of more than 30 bits"):
        Cursor.over(b"\xc0" + bytes(8)).length()


def test_a_length_that_could_be_shorter() -> None:
    with pytest.raises(MLSError, match="not as short as it can be"):
        Cursor.over(b"\x40\x25" + bytes(99)).length()


def test_a_vector_that_is_too_long() -> None:
    with pytest.raises(MLSError, match="a vector of more than 30 bits"):
        length_prefix(1 << 30)


def test_a_vector_longer_than_what_is_there() -> None:
    with pytest.raises(MLSError, match="cut short"):
        Cursor.over(opaque(b"abc")[:-1]).opaque()


def test_bytes_behind_the_end() -> None:
    with pytest.raises(MLSError, match="bytes behind the end"):
        RemoveProposal.decode(bytes(5))


def test_a_presence_octet_is_0_or_1() -> None:
    with pytest.raises(MLSError, match="a presence octet other than 0 and 1"):
        Optional(Uint(1)).read(Cursor.over(b"\2\0"))


def test_a_number_that_selects_nothing() -> None:
    with pytest.raises(MLSError, match="selects type 9"):
        Select(1, {1: RemoveProposal}).read(Cursor.over(b"\x09"))


def test_values_that_do_not_fit() -> None:
    for value in (-1, 256):
        with pytest.raises(MLSError, match="does not fit into 1 bytes"):
            Uint(1).write(value)
    with pytest.raises(MLSError, match="not 4 bytes"):
        Fixed(4).write(b"abc")
