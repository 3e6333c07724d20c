"""Keys of messages: RFC 9420, sections 9 and 9.1.

A secret tree is immutable: `take` gives a key and the tree that no longer has it, so a message that turns out to be
forged costs nothing, and what was deleted cannot be derived again (section 9.2): neither a node's secret once its
children have theirs, nor a generation once it was used. A replay therefore finds no key.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from attrs import evolve, frozen

from ironwire.errors import MLSError
from ironwire.mls import suite
from ironwire.mls.codec import U8, U32, Cursor, Fixed, Opaque, Struct, need
from ironwire.mls.suite import HASH_BYTES, KEY_BYTES, NONCE_BYTES
from ironwire.mls.tree_math import direct_path, left, right, root

MOST_SKIPPED = 1000
"""Generations that one message may be ahead of the last of its sender."""
MOST_KEPT = 256
"""Keys of skipped messages that wait for them, for each sender."""

APPLICATION = 1
_HANDSHAKE = 2


@frozen(repr=False)
class SkippedKey(Struct):
    generation: U32
    key: Annotated[bytes, Fixed(KEY_BYTES)]
    nonce: Annotated[bytes, Fixed(NONCE_BYTES)]


@frozen(repr=False)
class Ratchet(Struct):
    """One sender's keys: the next generation, and the skipped ones, oldest first."""

    leaf: U32
    kind: U8
    generation: U32
    secret: Opaque
    skipped: tuple[SkippedKey, ...]

    def take(self, generation: int) -> tuple[bytes, bytes, "Ratchet"]:
        """Raises:
        MLSError: the key was used or given up, or is too far ahead.
        """
        if generation < self.generation:
            found = next((each for each in self.skipped if each.generation == generation), None)
            if found is None:
                raise MLSError("a message that was opened before, or is too old")
            left_over = tuple(each for each in self.skipped if each is not found)
            return found.key, found.nonce, evolve(self, skipped=left_over)
        need(generation - self.generation <= MOST_SKIPPED, "a message that is too far ahead of its sender's last")
        secret, skipped = self.secret, list(self.skipped)
        for number in range(self.generation, generation + 1):
            key = suite.derive_tree_secret(secret, "key", number, KEY_BYTES)
            nonce = suite.derive_tree_secret(secret, "nonce", number, NONCE_BYTES)
            secret = suite.derive_tree_secret(secret, "secret", number, HASH_BYTES)
            skipped.append(SkippedKey(number, key, nonce))
        taken = skipped.pop()
        kept = tuple(skipped[-MOST_KEPT:])
        return taken.key, taken.nonce, evolve(self, generation=generation + 1, secret=secret, skipped=kept)


@frozen(repr=False)
class NodeSecret(Struct):
    place: U32
    secret: Opaque


@frozen(repr=False)
class SecretTree(Struct):
    """The secrets from which keys are still to be derived, and the ratchets of those who have sent."""

    size: int
    _nodes: Mapping[int, bytes]
    _ratchets: Mapping[tuple[int, int], Ratchet]

    @classmethod
    def new(cls, size: int, encryption_secret: bytes) -> Self:
        """The tree of an epoch with room for `size` leaves."""
        return cls(size, {root(size): encryption_secret}, {})

    def encode(self) -> bytes:
        return _Saved(
            self.size,
            tuple(NodeSecret(place, secret) for place, secret in sorted(self._nodes.items())),
            tuple(ratchet for _, ratchet in sorted(self._ratchets.items())),
        ).encode()

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        saved = _Saved.read(cursor)
        nodes = {each.place: each.secret for each in saved.nodes}
        tree = cls(saved.size, nodes, {(each.leaf, each.kind): each for each in saved.ratchets})
        need(tree.encode() == saved.encode(), "a stored secret tree that is not in order")
        return tree

    def next_generation(self, leaf: int, content_type: int) -> int:
        ratchet = self._ratchets.get((leaf, _kind(content_type)))
        return ratchet.generation if ratchet is not None else 0

    def take(self, leaf: int, content_type: int, generation: int) -> tuple[bytes, bytes, "SecretTree"]:
        """Key and nonce of one message, and the tree without them.

        Raises:
            MLSError: there is no such leaf, or its ratchet does not have that key.
        """
        need(leaf < self.size, "there is no member at this leaf")
        place = leaf, _kind(content_type)
        grown = self if place in self._ratchets else self._with_ratchets(leaf)
        key, nonce, ratchet = grown._ratchets[place].take(generation)
        return key, nonce, evolve(grown, ratchets={**grown._ratchets, place: ratchet})

    def _with_ratchets(self, leaf: int) -> "SecretTree":
        """Both ratchets of `leaf`, made from the lowest secret above it, which gives way to those beside the path."""
        nodes = dict(self._nodes)
        path = [2 * leaf, *direct_path(2 * leaf, self.size)]
        start = next((number for number, place in enumerate(path) if place in nodes), None)
        if start is None:
            raise MLSError("the keys of this leaf are not here")
        secret = nodes.pop(path[start])
        for place, below in zip(path[start:0:-1], path[start - 1 :: -1] if start else (), strict=True):
            halves = {side(place): _child(secret, name) for side, name in ((left, b"left"), (right, b"right"))}
            secret = halves.pop(below)
            nodes.update(halves)
        new = {
            (leaf, kind): Ratchet(leaf, kind, 0, suite.expand_with_label(secret, label, b"", HASH_BYTES), ())
            for kind, label in ((APPLICATION, "application"), (_HANDSHAKE, "handshake"))
        }
        return SecretTree(self.size, nodes, {**self._ratchets, **new})


@frozen(repr=False)
class _Saved(Struct):
    """A secret tree as it is stored, in order of place and of leaf."""

    size: U32
    nodes: tuple[NodeSecret, ...]
    ratchets: tuple[Ratchet, ...]


def _child(secret: bytes, side: bytes) -> bytes:
    return suite.expand_with_label(secret, "tree", side, HASH_BYTES)


def _kind(content_type: int) -> int:
    """Proposals and commits share the handshake ratchet."""
    return APPLICATION if content_type == APPLICATION else _HANDSHAKE
