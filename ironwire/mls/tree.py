"""The public ratchet tree: RFC 9420, sections 4.1, 7.4, 7.7 to 7.9.

Nodes are immutable, and copies share them and their hashes: a change costs the hashes on its way to the root.
"""

from collections.abc import Iterator
from typing import Self

from attrs import define, evolve, field

from ironwire.errors import MLSError
from ironwire.mls import suite
from ironwire.mls.codec import Cursor, Struct, Vector, need, opaque
from ironwire.mls.nodes import NODE, FromCommit, LeafNode, Node, ParentHashInput, ParentNode
from ironwire.mls.tree_math import direct_path, leaves_below, left, parent_of, right, root, sibling, width

MOST_LEAVES = 1 << 13
"""Places for members. A blank one takes a byte of a message, and microseconds of everybody who hashes the tree."""
_NODES = Vector(NODE)


@define(eq=False)
class Tree(Struct):
    """The nodes as an array, and the tree hash of each where it is known."""

    nodes: list[Node | None]
    _hashes: list[bytes | None] = field()

    @_hashes.default
    def _unknown(self) -> list[bytes | None]:
        return [None] * len(self.nodes)

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """A `ratchet_tree` (section 12.4.3.3), without blanks at its end."""
        nodes: list[Node | None] = list(_NODES.read(cursor))
        need(len(nodes) < 2 * MOST_LEAVES, "a tree with too many leaves")
        need(nodes and isinstance(nodes[-1], LeafNode), "a tree that does not end with a leaf")
        for index, node in enumerate(nodes):
            need(
                node is None or isinstance(node, ParentNode) == bool(index & 1),
                "a leaf in a parent's place, or reverse",
            )
        leaves = 1 << (len(nodes) // 2).bit_length()
        return cls(nodes + [None] * (width(leaves) - len(nodes)))

    def encode(self) -> bytes:
        end = next(place for place in reversed(range(len(self.nodes))) if self.nodes[place] is not None)
        return opaque(b"".join([b"\0" if node is None else node.in_tree for node in self.nodes[: end + 1]]))

    def copy(self) -> "Tree":
        return Tree(self.nodes.copy(), self._hashes.copy())

    # --- what stands where ---

    @property
    def size(self) -> int:
        """How many leaves there is room for."""
        return len(self.nodes) // 2 + 1

    def leaf(self, index: int) -> LeafNode:
        """Raises:
        MLSError: nobody is at this place.
        """
        leaf = self.nodes[2 * index] if index < self.size else None
        if not isinstance(leaf, LeafNode):
            raise MLSError("there is no member at this leaf")
        return leaf

    def key(self, place: int) -> bytes:
        """The public key of a node, or nothing where it is blank."""
        node = self.nodes[place]
        return b"" if node is None else node.encryption_key

    def leaves(self) -> Iterator[tuple[int, LeafNode]]:
        for place, leaf in enumerate(self.nodes[::2]):
            if isinstance(leaf, LeafNode):
                yield place, leaf

    def parents(self) -> Iterator[tuple[int, ParentNode]]:
        for place in range(1, len(self.nodes), 2):
            if isinstance(node := self.nodes[place], ParentNode):
                yield place, node

    def resolution(self, place: int) -> list[int]:
        """The nodes that cover all members below `place` (section 4.1.1)."""
        node = self.nodes[place]
        if isinstance(node, ParentNode):
            return [place, *[2 * leaf for leaf in node.unmerged_leaves]]
        if node is not None:
            return [place]
        return self.resolution(left(place)) + self.resolution(right(place)) if place & 1 else []

    def is_blank_below(self, place: int) -> bool:
        return not any(self.nodes[2 * leaf] for leaf in leaves_below(place))

    def filtered_direct_path(self, leaf: int) -> list[tuple[int, int]]:
        """The parents of `leaf` that get a key, lowest first, each with its child off the path (section 4.1.2)."""
        path, below = [], 2 * leaf
        for place in direct_path(2 * leaf, self.size):
            if not self.is_blank_below(sibling(below)):
                path.append((place, sibling(below)))
            below = place
        return path

    # --- changes (section 7.7) ---

    def put(self, place: int, node: Node | None) -> None:
        self.nodes[place] = node
        for above in (place, *direct_path(place, self.size)):
            self._hashes[above] = None

    def add(self, leaf: LeafNode) -> int:
        """Put `leaf` at the leftmost free place, which is the result."""
        index = next((index for index in range(self.size) if self.nodes[2 * index] is None), self.size)
        if index == self.size:
            need(index < MOST_LEAVES, "a tree with too many leaves")
            room: list[None] = [None] * (len(self.nodes) + 1)
            self.nodes += room
            self._hashes += room
        self.put(2 * index, leaf)
        for place in direct_path(2 * index, self.size):
            if isinstance(parent := self.nodes[place], ParentNode):
                unmerged = tuple(sorted({*parent.unmerged_leaves, index}))
                self.put(place, evolve(parent, unmerged_leaves=unmerged))
        return index

    def update(self, index: int, leaf: LeafNode) -> None:
        self.put(2 * index, leaf)
        self.blank_path(index)

    def remove(self, index: int) -> None:
        self.put(2 * index, None)
        self.blank_path(index)
        while self.size > 1 and self.is_blank_below(right(root(self.size))):
            half = len(self.nodes) // 2
            del self.nodes[half:], self._hashes[half:]

    def blank_path(self, index: int) -> None:
        for place in direct_path(2 * index, self.size):
            if self.nodes[place] is not None:
                self.put(place, None)

    def merge_path(self, index: int, keys: list[bytes]) -> bytes:
        """Give the filtered direct path of `index` new keys (section 7.5). The result is the leaf's parent hash."""
        path = self.filtered_direct_path(index)
        need(len(path) == len(keys), "a path of another length than the tree's")
        self.blank_path(index)
        parent_hash = b""
        for (place, off_path), key in reversed(list(zip(path, keys, strict=True))):
            self.put(place, ParentNode(key, parent_hash, ()))
            parent_hash = suite.digest(ParentHashInput(key, parent_hash, self.hash(off_path)).encode())
        return parent_hash

    # --- hashes (sections 7.8 and 7.9) ---

    def hash(self, place: int | None = None) -> bytes:
        """The tree hash of the subtree at `place`, or of the whole tree."""
        place = root(self.size) if place is None else place
        known = self._hashes[place]
        if known is None:
            known = self._hashes[place] = self._hash(place, frozenset())
        return known

    def _hash(self, place: int, without: frozenset[int]) -> bytes:
        """The hash as if the leaves `without` had never been added."""
        node = self.nodes[place]
        if not place & 1:
            index = place // 2
            body = b"\0" if node is None or index in without else b"\1" + node.encode()
            return suite.digest(b"\1" + index.to_bytes(4, "big") + body)
        if isinstance(node, ParentNode) and without:
            node = evolve(node, unmerged_leaves=tuple(each for each in node.unmerged_leaves if each not in without))
        body = b"\0" if node is None else b"\1" + node.encode()
        hashes = [self._hash_without(child, without) for child in (left(place), right(place))]
        return suite.digest(b"\2" + body + opaque(hashes[0]) + opaque(hashes[1]))

    def _hash_without(self, place: int, without: frozenset[int]) -> bytes:
        below = leaves_below(place)
        within = frozenset(leaf for leaf in without if leaf in below)
        return self._hash(place, within) if within else self.hash(place)

    # --- validity of a tree that somebody else made (sections 7.9.2 and 12.4.3.1) ---

    def check_structure(self) -> None:
        """Raises:
        MLSError: a parent hash, an `unmerged_leaves` or a key is not as it must be.
        """
        self.check_keys()
        for place, parent in self.parents():
            self._check_unmerged(place, parent)
        for place, parent in self.parents():
            need(
                self._is_parent_hash_of(place, parent, left(place), right(place))
                or self._is_parent_hash_of(place, parent, right(place), left(place)),
                "a parent node to which no parent hash leads",
            )

    def check_keys(self) -> None:
        """Every public key stands in the tree once (sections 7.3, 12.4.2 and 12.4.3.1)."""
        present = [node for node in self.nodes if node is not None]
        need(len({node.encryption_key for node in present}) == len(present), "two nodes with one encryption key")
        signers = [node.signature_key for node in present if isinstance(node, LeafNode)]
        need(len(set(signers)) == len(signers), "two leaves with one signature key")

    def _check_unmerged(self, place: int, parent: ParentNode) -> None:
        unmerged = parent.unmerged_leaves
        need(list(unmerged) == sorted(set(unmerged)), "unmerged leaves are not in order")
        for leaf in unmerged:
            need(leaf in leaves_below(place) and self.nodes[2 * leaf], "an unmerged leaf that is not below its parent")
            between = parent_of(2 * leaf)
            while between != place:
                node = self.nodes[between]
                need(
                    not isinstance(node, ParentNode) or leaf in node.unmerged_leaves,
                    "an unmerged leaf that a node between does not list",
                )
                between = parent_of(between)

    def _is_parent_hash_of(self, place: int, parent: ParentNode, child: int, other: int) -> bool:
        """Whether a node of `child`'s resolution holds the hash of `parent`, and the others came afterwards."""
        below = leaves_below(child)
        unmerged = {2 * leaf for leaf in parent.unmerged_leaves if leaf in below}
        resolution = set(self.resolution(child))
        if len(resolution) != len(unmerged) + 1 or not unmerged <= resolution:
            return False
        (lowest,) = resolution - unmerged
        node = self.nodes[lowest]
        held = node.source.parent_hash if isinstance(node, LeafNode) and isinstance(node.source, FromCommit) else None
        if isinstance(node, ParentNode):
            held = node.parent_hash
        original = self._hash_without(other, frozenset(parent.unmerged_leaves))
        expected = ParentHashInput(parent.encryption_key, parent.parent_hash, original).encode()
        return held == suite.digest(expected)
