"""The leaves of an MLS group as a list, without a tree: enough to tell who is in a group, and who sent a commit.

    Remove   blanks the slot; blank slots at the end go
    Add      takes the first blank slot, or a new one at the end

This is what the leaves of a ratchet tree do (RFC 9420, sections 7.7, 12.1.1 and 12.1.3): a tree gives up its right half
when that is blank, and a blank leaf there is as good as one that a longer tree would have.
"""

from collections.abc import Iterable

from attrs import frozen

from ironwire.ids import ClientId


@frozen
class Leaf:
    """A device in a group: its client, and the device's public key."""

    client: ClientId
    device: bytes


Slots = tuple[Leaf | None, ...]
"""By leaf index. The last is never blank."""


def change_slots(slots: Slots, removed: Iterable[int], added: Iterable[Leaf]) -> Slots:
    """The slots after a commit. `removed` are indices of slots that are not blank."""
    after: list[Leaf | None] = list(slots)
    for index in removed:
        after[index] = None
    while after and after[-1] is None:
        after.pop()
    blank = 0
    for leaf in added:
        while blank < len(after) and after[blank] is not None:
            blank += 1
        if blank == len(after):
            after.append(leaf)
        else:
            after[blank] = leaf
    return tuple(after)


def leaf_at(slots: Slots, index: int) -> Leaf | None:
    """None: the slot is blank, or there is none."""
    return slots[index] if index < len(slots) else None


def leaves_of(slots: Slots, client: ClientId) -> dict[int, Leaf]:
    """The client's leaves by index."""
    return {index: leaf for index, leaf in enumerate(slots) if leaf is not None and leaf.client == client}


def leaves_in(slots: Slots) -> tuple[Leaf, ...]:
    return tuple(leaf for leaf in slots if leaf is not None)
