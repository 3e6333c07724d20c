"""The array of a balanced binary tree: RFC 9420, section 4.1.2 and appendix C.

Leaf n is node 2n, and parents stand at the odd places between. The number of leaves is a power of two.
"""


def level(node: int) -> int:
    """How far `node` stands above the leaves: the number of its trailing one bits."""
    return (~node & node + 1).bit_length() - 1


def root(leaves: int) -> int:
    return leaves - 1


def width(leaves: int) -> int:
    return 2 * leaves - 1


def left(parent: int) -> int:
    return parent ^ 1 << level(parent) - 1


def right(parent: int) -> int:
    return parent ^ 3 << level(parent) - 1


def parent_of(node: int) -> int:
    k = level(node)
    return (node | 1 << k) & ~(1 << k + 1)


def sibling(node: int) -> int:
    parent = parent_of(node)
    return left(parent) if node > parent else right(parent)


def direct_path(node: int, leaves: int) -> list[int]:
    """The ancestors of `node`, lowest first."""
    path = []
    while node != root(leaves):
        node = parent_of(node)
        path.append(node)
    return path


def is_below(node: int, ancestor: int) -> bool:
    """Whether `node` is `ancestor` or stands below it."""
    return abs(node - ancestor) < 1 << level(ancestor)


def leaves_below(node: int) -> range:
    """The leaf indices under `node`."""
    reach = (1 << level(node)) - 1
    return range((node - reach) // 2, (node + reach) // 2 + 1)
