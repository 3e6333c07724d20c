"""Names of conversations, and the MLS group ids of their generations (docs/protocol.md, section 10).

A conversation is a pair of clients (`@…`), a client with its own devices (the pair of the client with itself), or a
server group (`#…`). A generation is one MLS group of a conversation: when a group is beyond repair, the conversation
is restarted into the next.
"""

import hashlib

from attrs import frozen

from ironwire.ids import ClientId, ConversationId, PairId

_PAIR_CONTEXT = b"IronWire 1:1\0"
NAME_BYTES = 16
_GENERATION_BYTES = 4
RANDOM_BYTES = 12
GROUP_ID_BYTES = NAME_BYTES + _GENERATION_BYTES + RANDOM_BYTES


def pair_id(one: ClientId, other: ClientId) -> PairId:
    """The conversation of two clients, whoever asks; with the same client twice, that of its own devices."""
    smaller, larger = sorted((one, other))
    digest = hashlib.sha256(_PAIR_CONTEXT + bytes.fromhex(smaller) + bytes.fromhex(larger)).digest()
    return PairId("@" + digest[:NAME_BYTES].hex())


@frozen
class Generation:
    """One MLS group of a conversation."""

    conversation: ConversationId
    number: int

    def group_id(self, random: bytes) -> bytes:
        """The id of an MLS group of this generation."""
        return self._prefix + random

    def is_named_by(self, group_id: bytes) -> bool:
        """Whether an MLS group with this id may be of this generation. The kind of the conversation is not in it."""
        return len(group_id) == GROUP_ID_BYTES and group_id.startswith(self._prefix)

    @property
    def _prefix(self) -> bytes:
        return bytes.fromhex(self.conversation[1:]) + self.number.to_bytes(_GENERATION_BYTES, "big")
