"""Any bytes at all, as what a commit declares and as a roster.

What it proves, for every input, is that a decoder

- gives a value or raises the one error of its kind, and nothing else;
- understood the input: what it gave encodes to the same bytes;

and that whatever is declared, a commit with no proposal is allowed or refused, and leaves a roster with an admin.
"""

from contextlib import suppress

from ironwire.errors import InvalidDeclaration
from ironwire.ids import ClientId, GroupId, Role
from ironwire.protocol.conversations.declaration import (
    Declaration,
    decode_declaration,
    decode_roster,
    encode_roster,
)
from ironwire.protocol.conversations.membership import Checked, ConversationState, Logs, check
from ironwire.protocol.conversations.slots import Leaf

ANN, BOB = ClientId("a" * 64), ClientId("b" * 64)
ROSTER: dict[ClientId, Role] = {ANN: "admin", BOB: "member"}
_STATE = ConversationState(GroupId("#" + "0" * 32), (Leaf(ANN, b"a" * 32),), ROSTER)


def one(data: bytes) -> None:
    """Raises:
    AssertionError: a law above is broken.
    """
    with suppress(InvalidDeclaration):
        roster = decode_roster(data)
        assert encode_roster(roster) == data, "another roster came back"
    try:
        declared = decode_declaration(data)
    except InvalidDeclaration:
        return
    assert declared.encode() == data, "another declaration came back"
    _check(declared)


def _check(declared: Declaration) -> None:
    outcome = check(declared, [], 0, _STATE, Logs({}), has_path=True)
    if isinstance(outcome, Checked):
        assert declared.by == ANN, "somebody else committed"
        assert outcome.slots == _STATE.slots, "a leaf came or went without a proposal"
        assert "admin" in outcome.roster.values(), "nobody is admin"
