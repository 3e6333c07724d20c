"""Any bytes at all, to every decoder of MLS, to a member of a group, and to the server as somebody's commit.

For every input it proves that

- a decoder gives a value or raises `MLSError`, whose text is short and printable, and nothing else;
- what was understood has one encoding: the value encodes to the same bytes;
- a message that a member refuses leaves the member's state as it was, and no message is taken twice;
- a commit that the server understands has a welcome for each device that it adds, which leads to one secret.

The first byte of an input chooses who gets the others. The group is the same in every run: its randomness is counted.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

import trio
from attrs import frozen

from ironwire.e2e.conversations.policy import added_leaf
from ironwire.errors import MLSError
from ironwire.handlers.commit_reader import ReadCommit, read_commit
from ironwire.ids import ClientId, GroupId
from ironwire.mls import KeyPackagePrivate, MLSGroup, Policy
from ironwire.mls.codec import Cursor, opaque
from ironwire.mls.framing import MLSMessage, envelope
from ironwire.mls.messages import GroupSecrets, MLSGroupInfo
from ironwire.mls.nodes import RequiredCapabilities
from ironwire.mls.public import cut_welcome, inspect_application, inspect_commit, open_key_package
from ironwire.mls.tree import Tree
from ironwire.protocol.conversations.declaration import Declaration
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.files.blobs import Blobs
from ironwire.wire.base64url import to_base64url
from ironwire.wire.messages import MlsCommit
from tests.mls.crew import Device, Stored, counted_randomness, crew, stored

_TEXT_CHARACTERS = 200
NOW_MS = 1_500_000
"""Within the lifetime of the key packages."""
GROUP = GroupId("#" + "0" * 32)
SOMEBODY = Leaf(ClientId("a" * 64), b"k" * 32)
NO_BLOBS, NO_READERS = cast("Blobs", None), cast("trio.CapacityLimiter", None)
"""Nothing here is that large."""


@frozen
class World:
    """A member of a group, what others could send it, and a device that is invited."""

    state: Stored
    member: Device
    invited: Device
    own: KeyPackagePrivate
    inputs: dict[str, bytes]


def _world() -> World:
    with counted_randomness():
        alice, bob, carol = crew("alice", "bob", "carol")
        dave = Device("dave")
        own = dave.package()
        application = alice.group.encrypt(b"hello", b"data")
        pending = alice.group.commit(add=[own.public], remove=[carol.leaf], authenticated_data=b"IWC1{}")
        info = MLSGroupInfo(alice.group._epoch.context, (), b"tag", 0, b"signature")
        state = stored(bob.group)
        inputs = {
            "commit": _input(_process, pending.commit),
            "application": _input(_process, application),
            "welcome": _input(_join, pending.welcome),
            "welcome-to-cut": _input(_decode, pending.welcome),
            "key-package": _input(_decode, own.public),
            "group-info": _input(_decode, envelope(info)),
            "tree": _input(_decode, alice.group.tree()),
            "commit-to-read": _input(_read_commit, _said(alice, own.public)),
            "state": _input(_restore, opaque(state[0]) + state[1]),
        }
        return World(state, bob, dave, own, inputs)


def one(data: bytes) -> None:
    """Give `data` to whom its first byte says.

    Raises:
        AssertionError: one of the laws above was broken.
    """
    _TARGETS[data[0] % len(_TARGETS) if data else 0](data[1:])


def _decode(data: bytes) -> None:
    for decode in (MLSMessage.decode, Tree.decode, GroupSecrets.decode, RequiredCapabilities.decode):
        with refusals():
            value = decode(data)
            assert value.encode() == data, "a value with two encodings"
    for read in (inspect_commit, inspect_application, open_key_package, cut_welcome, _certified):
        with refusals():
            read(data)


def _certified(data: bytes) -> Leaf:
    return added_leaf(open_key_package(data), NOW_MS)


def _read_commit(data: bytes) -> None:
    """The first four bytes are the length of the commit; the welcome is behind it."""
    end = 4 + int.from_bytes(data[:4], "big")
    commit, welcome = to_base64url(data[4:end]), to_base64url(data[end:]) or None
    with refusals():
        read = _at_once(read_commit(MlsCommit(GROUP, 1, commit, welcome=welcome), NO_BLOBS, NO_READERS))
        claimed = dict.fromkeys(read.refs, SOMEBODY)
        assert len(read.proposals(claimed)) == len(read.refs) + len(read.removed), "a proposal was overlooked"
        parts = [cut_welcome(part.data)[0] for _, part in read.welcomes(claimed)]
        assert [[*secrets] for secrets in parts] == [[ref] for ref in read.refs], "a welcome of somebody else"


def _said(committer: Device, package: bytes) -> bytes:
    """A commit and its welcome, as a device gives them to the server."""
    committer.group.drop_pending()
    declared = Declaration(by=SOMEBODY.client, op="members", add=(SOMEBODY.client,), roster="5a" * 32)
    made = committer.group.commit(add=[package], authenticated_data=declared.encode())
    return len(made.commit).to_bytes(4, "big") + made.commit + made.welcome


def _at_once(reading: Coroutine[Any, Any, ReadCommit]) -> ReadCommit:
    """What it returns: where nothing is a blob, it waits for nothing."""
    try:
        reading.send(None)
    except StopIteration as done:
        found: ReadCommit = done.value
        return found
    raise AssertionError("it waits for something")


def _process(data: bytes) -> None:
    group = MLSGroup.restore(*WORLD.state, WORLD.member.key, WORLD.member.policy)
    try:
        group.process(data)
    except MLSError as refused:
        _check_text(refused)
        assert stored(group) == WORLD.state, "a message that was refused left something behind"
        return
    state = stored(group)
    assert state != WORLD.state, "a message that was taken changed nothing"
    try:
        group.process(data)
    except MLSError:
        assert stored(group) == state
    else:
        raise AssertionError("a message was taken twice")


def _join(data: bytes) -> None:
    with refusals():
        MLSGroup.join(WORLD.invited.key, WORLD.own, data, Policy())


def _restore(data: bytes) -> None:
    with refusals():
        cursor = Cursor.over(data)
        state = cursor.opaque(), cursor.rest()
        group = MLSGroup.restore(*state, WORLD.member.key, WORLD.member.policy)
        assert stored(group) == state, "a state with two encodings"


_TARGETS: tuple[Callable[[bytes], None], ...] = (_decode, _process, _join, _restore, _read_commit)


def _input(target: Callable[[bytes], None], data: bytes) -> bytes:
    return bytes([_TARGETS.index(target)]) + data


@contextmanager
def refusals() -> Iterator[None]:
    """Let the one error pass that may come."""
    try:
        yield
    except MLSError as refused:
        _check_text(refused)


def _check_text(refused: MLSError) -> None:
    text = str(refused)
    assert 0 < len(text) <= _TEXT_CHARACTERS, "the error says nothing, or too much"
    assert text.isprintable(), "the error carries what a peer wrote"


WORLD = _world()
