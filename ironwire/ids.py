"""The identifiers of the protocol, each with the one parser that makes it.

A value of these types is valid. Parsers raise `InvalidId` and never repair
their input, with two exceptions: the public key in `auth` is folded to lower case (`crypto/signing.py`), and
`parse_origin` brings typed origins to the one form that is signed.
"""

import re
from ipaddress import IPv6Address
from typing import Literal, NewType

from attrs import frozen

from ironwire.errors import InvalidId

ClientId = NewType("ClientId", str)
"""64 lowercase hex digits: the client's Ed25519 public key."""

DeviceId = NewType("DeviceId", str)
"""1-64 characters of `[A-Za-z0-9._-]`: one installation of a client."""

GroupId = NewType("GroupId", str)
"""`#` and 32 lowercase hex digits."""

Address = ClientId | GroupId
"""The destination of an envelope."""

PairId = NewType("PairId", str)
"""`@` and 32 lowercase hex digits: the conversation of two clients, or of a client with itself
(`protocol/conversations/names.py`).
"""

ConversationId = PairId | GroupId
"""Where encrypted messages go."""

Recipient = ClientId | GroupId | PairId
"""What an envelope names as its destination."""

CallId = NewType("CallId", str)
"""32 lowercase hex digits, chosen by the client that calls."""

Role = Literal["admin", "member"]
"""The rights of a member of a group: an admin may change the members, the roles, and the name."""

MessageId = NewType("MessageId", str)
"""1-64 characters from U+0020 to U+007E, chosen by the sender; unique for its device over the retention period."""

BlobName = NewType("BlobName", str)
"""`<uuid4>.bin`: the name of an uploaded file."""

LinkName = NewType("LinkName", str)
"""32 lowercase hex digits: where the answer to a device that asks to be linked is left."""

BackupName = NewType("BackupName", str)
"""32 lowercase hex digits that follow from a recovery code."""

Origin = NewType("Origin", str)
"""`http://host` or `https://host`, with `:port` unless it is the scheme's own: the address under which clients reach
the server.
"""


@frozen
class EndpointId:
    """An end of a call or conversation: a device, whichever session it has, or one session without a device."""

    client: ClientId
    device: DeviceId | None
    session: int = 0
    """Distinguishes sessions without a device; 0 for a device."""


# The first six are public because `wire/schema.py` publishes them.
CLIENT_ID = re.compile(r"[0-9a-f]{64}")
DEVICE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GROUP_ID = re.compile(r"#[0-9a-f]{32}")
CONVERSATION_ID = re.compile(r"[@#][0-9a-f]{32}")
CALL_ID = re.compile(r"[0-9a-f]{32}")
MESSAGE_ID = re.compile(r"[\x20-\x7e]{1,64}")
_BLOB = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.bin")
_ORIGIN = re.compile(
    r"(?:http|ws)(s?)://(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?))(?::([0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MEDIA_PREFIX = "/media/"
_SHORT_DIGITS = 8
_HIDDEN_NAME = re.compile(r"[0-9a-f]{32}")


def parse_client_id(text: str) -> ClientId:
    if CLIENT_ID.fullmatch(text) is None:
        raise InvalidId("must be a client id: 64 lowercase hex digits")
    return ClientId(text)


def parse_device_id(text: str) -> DeviceId:
    if DEVICE_ID.fullmatch(text) is None:
        raise InvalidId("must be a device id: 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return DeviceId(text)


def parse_group_id(text: str) -> GroupId:
    if GROUP_ID.fullmatch(text) is None:
        raise InvalidId("must be a group id: # and 32 lowercase hex digits")
    return GroupId(text)


def parse_conversation_id(text: str) -> ConversationId:
    if CONVERSATION_ID.fullmatch(text) is None:
        raise InvalidId("must be a conversation id: @ or #, and 32 lowercase hex digits")
    return GroupId(text) if text[0] == "#" else PairId(text)


def parse_address(text: str) -> Address:
    if CLIENT_ID.fullmatch(text) is not None:
        return ClientId(text)
    if GROUP_ID.fullmatch(text) is not None:
        return GroupId(text)
    raise InvalidId("must be a client id (64 lowercase hex digits) or a group id (# and 32 lowercase hex digits)")


def parse_recipient(text: str) -> Recipient:
    return PairId(text) if text[:1] == "@" and CONVERSATION_ID.fullmatch(text) is not None else parse_address(text)


def parse_call_id(text: str) -> CallId:
    if CALL_ID.fullmatch(text) is None:
        raise InvalidId("must be a call id: 32 lowercase hex digits")
    return CallId(text)


def short_client(client: ClientId) -> str:
    """A prefix of a client's id for the operator, long enough to find the client and to distinguish its sessions."""
    return client[:_SHORT_DIGITS]


def is_group(address: Recipient) -> bool:
    return address[0] == "#"


def parse_message_id(text: str) -> MessageId:
    if MESSAGE_ID.fullmatch(text) is None:
        raise InvalidId("must be 1 to 64 characters from U+0020 to U+007E")
    return MessageId(text)


def parse_blob_name(text: str) -> BlobName:
    if _BLOB.fullmatch(text) is None:
        raise InvalidId("must be <uuid4>.bin")
    return BlobName(text)


def media_path(name: BlobName) -> str:
    """The URL path under which the blob is served: the `url` of a `file` message."""
    return _MEDIA_PREFIX + name


def parse_media_path(text: str) -> BlobName:
    if not text.startswith(_MEDIA_PREFIX):
        raise InvalidId("must be /media/<uuid4>.bin")
    return parse_blob_name(text.removeprefix(_MEDIA_PREFIX))


def parse_link_name(text: str) -> LinkName:
    return LinkName(_parse_hidden_name(text))


def parse_backup_name(text: str) -> BackupName:
    return BackupName(_parse_hidden_name(text))


def _parse_hidden_name(text: str) -> str:
    if _HIDDEN_NAME.fullmatch(text) is None:
        raise InvalidId("must be 32 lowercase hex digits")
    return text


def parse_origin(text: str) -> Origin:
    """The one form of an origin: lower case, `ws` as `http`, no default port, the shortest spelling of an IPv6 address.

    Client and server compare origins as strings, so both bring theirs to this form (docs/protocol.md, section 3).
    """
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise InvalidId("must be an origin: http:// or https://, a host in ASCII, perhaps a port, and no path")
    secure, ipv6, name, digits = match.groups()
    scheme = "http" + secure.lower()
    host = name.lower() if ipv6 is None else f"[{_shortest_ipv6(ipv6)}]"
    port = int(digits) if digits else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise InvalidId("must be an origin whose port is between 1 and 65535")
    return Origin(f"{scheme}://{host}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}")


def _shortest_ipv6(text: str) -> str:
    try:
        return IPv6Address(text).compressed
    except ValueError:
        raise InvalidId("must be an origin whose IPv6 address is valid") from None
