"""What a commit declares in its authenticated data, and the roster that it leads to: encodings alone.

    authenticated data = "IWC1" ‖ canonical JSON: sorted keys, no spaces, nothing that is empty
    roster             = client id (32 bytes) ‖ role (1 admin, 2 member), for each client, in the order of their ids

Both have one encoding for one content. The committer signs the first, which has the hash of the second, so server and
members cannot be told two different things. `membership.py` compares the declaration with what the commit does.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from attrs import field, frozen

from ironwire.errors import InvalidDeclaration
from ironwire.ids import ClientId, MessageId, Role, parse_client_id, parse_message_id
from ironwire.wire.base64url import from_base64url, to_base64url

Op = Literal["members", "roles", "rename", "devices", "leave", "readd", "update"]

MAGIC = b"IWC1"
MOST_BYTES = 48 * 1024
"""A thousand clients that are added take 42.7 KB."""
CLIENT_BYTES = 32
_HASH = re.compile(r"[0-9a-f]{64}")
_ROLES: Mapping[Role, int] = {"admin": 1, "member": 2}
_ROLE_OF: Mapping[int, Role] = {number: role for role, number in _ROLES.items()}


# --- rosters ---------------------------------------------------------------------------------------------------------

Roles = Mapping[ClientId, Role]


def encode_roster(roles: Roles) -> bytes:
    return b"".join(bytes.fromhex(client) + bytes([_ROLES[role]]) for client, role in sorted(roles.items()))


def decode_roster(data: bytes) -> dict[ClientId, Role]:
    """Raises:
    InvalidDeclaration: `data` is not what `encode_roster` writes for any roster.
    """
    size = CLIENT_BYTES + 1
    rows = [data[start : start + size] for start in range(0, len(data), size)]
    if len(data) % size or any(row[-1] not in _ROLE_OF for row in rows):
        raise InvalidDeclaration("a roster is a list of clients, each with a role")
    roles = {ClientId(row[:CLIENT_BYTES].hex()): _ROLE_OF[row[-1]] for row in rows}
    if encode_roster(roles) != data:
        raise InvalidDeclaration("a roster has each client once, in the order of their ids")
    return roles


def roster_hash(roles: Roles) -> str:
    return hashlib.sha256(encode_roster(roles)).hexdigest()


# --- declarations ----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Declaration:
    """What a commit is for. `roster` is the hash of the roster after it."""

    by: ClientId
    op: Op
    add: Sequence[ClientId] = ()
    """Clients, in the order of their ids; so is `remove`."""
    remove: Sequence[ClientId] = ()
    roles: Roles = field(factory=dict)
    name: str | None = None
    """The hash of the group's new name. The name itself goes in a message."""
    roster: str
    re: MessageId | None = None
    """The task or message that asked for it."""

    def encode(self) -> bytes:
        """Raises:
        InvalidDeclaration: it is too large.
        """
        said: dict[str, object] = {"by": self.by, "op": self.op, "roster": self.roster}
        optional = {
            "add": _join(self.add),
            "remove": _join(self.remove),
            "roles": dict(self.roles),
            "name": self.name,
            "re": self.re,
        }
        said.update({key: value for key, value in optional.items() if value})
        data = MAGIC + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
        if len(data) > MOST_BYTES:
            raise InvalidDeclaration(f"a commit declares at most {MOST_BYTES} bytes")
        return data


def decode_declaration(data: bytes) -> Declaration:
    """Raises:
    InvalidDeclaration: `data` is not what `encode` writes for any declaration.
    """
    if not data.startswith(MAGIC) or len(data) > MOST_BYTES:
        raise InvalidDeclaration("a commit declares what it is for")
    try:
        said = json.loads(data.removeprefix(MAGIC).decode("ascii"))
        declared = _declaration(**said)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidDeclaration(f"a commit that does not declare what it is for: {error}") from None
    if declared.encode() != data:
        raise InvalidDeclaration("a commit declares what it is for in one form")
    return declared


def _declaration(
    *,
    by: Any,
    op: Any,
    roster: Any,
    add: Any = "",
    remove: Any = "",
    roles: Any = None,
    name: Any = None,
    re: Any = None,
) -> Declaration:
    """Raises:
    ValueError, TypeError: not the fields of a declaration.
    """
    if op not in get_args(Op):
        raise ValueError("an unknown op")
    roles = {} if roles is None else roles
    if type(roles) is not dict or any(role not in _ROLES for role in roles.values()):
        raise ValueError("roles that are none")
    return Declaration(
        by=parse_client_id(by),
        op=op,
        add=_split(add),
        remove=_split(remove),
        roles={parse_client_id(client): role for client, role in roles.items()},
        name=None if name is None else _parse_hash(name),
        roster=_parse_hash(roster),
        re=None if re is None else parse_message_id(re),
    )


def _join(clients: Sequence[ClientId]) -> str:
    return to_base64url(b"".join(bytes.fromhex(client) for client in clients))


def _split(text: str) -> tuple[ClientId, ...]:
    data = from_base64url(text)
    clients = [ClientId(data[at : at + CLIENT_BYTES].hex()) for at in range(0, len(data), CLIENT_BYTES)]
    if len(data) % CLIENT_BYTES or clients != sorted(set(clients)):
        raise ValueError("clients that are not in the order of their ids")
    return tuple(clients)


def _parse_hash(text: str) -> str:
    if _HASH.fullmatch(text) is None:
        raise ValueError("not a SHA-256 in hex")
    return text
