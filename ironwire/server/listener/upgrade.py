"""The request that opens a WebSocket, in its plain form, and the answer to it: sans-IO (RFC 6455, section 4.2).

Nearly every client sends the same few lines in one packet, and a general HTTP parser spends more on them than the rest
of an arrival costs. This parser reads only requests that every parser reads alike, and returns None for all others,
which the general parser judges. So it is never lenient, and refuses nothing.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1

from attrs import frozen

HEAD_BYTES = 8 * 1024
"""The longest head that counts as plain."""

HEAD_LINES = 128
"""The request line and fields that may come in one read. h11 bounds the bytes of a head, and takes 90 ms for one of ten
thousand fields that comes in one piece.
"""

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
# Names are tokens (RFC 9110, section 5.6.2), values have no obs-text (section 5.5).
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+")
_LABEL = rb"[^\x00-\x20\x7f-\xff:/?#@\[\]\\.]{1,63}"
_HOST = re.compile(rb"(?:\[[0-9a-fA-F:.]{2,45}\]|(?:%s(?:\.%s)*\.?)?)(?::[0-9]{0,5})?" % (_LABEL, _LABEL))
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_KEY = re.compile(rb"[0-9A-Za-z+/]{21}[AQgw]==")  # 16 bytes in base64, their last four bits padded with zeros

_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %s\r\n%s\r\n"
)
_NO_BODY = frozenset({b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te"})
_ONE_VALUE = frozenset({b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"})
_TAKEN = _ONE_VALUE | {b"x-forwarded-for", b"origin"}


@frozen
class Upgrade:
    """A request that asks for a WebSocket, and can be answered with 101."""

    key: bytes
    """`Sec-WebSocket-Key`."""
    leftover: bytes
    """The bytes behind the request: the first frames."""
    forwarded_for: str = ""
    """`X-Forwarded-For`."""
    origin: str | None = None
    """`Origin`: the site of the page that asks, as browsers send it."""

    def answer(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The response of section 4.2.2, with `headers` behind its own: no extension and no subprotocol."""
        accept = b64encode(sha1(self.key + _ACCEPT_GUID, usedforsecurity=False).digest())
        return _ANSWER % (accept, b"".join([b"%s: %s\r\n" % field for field in headers]))


def is_host(value: bytes) -> bool:
    """Whether `Host` is well-formed: empty, or an address or a name with labels of at most 63 characters, and a port
    (RFC 3986, section 3.2.2).
    """
    return _HOST.fullmatch(value) is not None


def has_too_many_lines(data: bytes) -> bool:
    """Whether the head that `data` begins with has more than `HEAD_LINES` lines."""
    end = _END_OF_HEAD.search(data)
    return data.count(b"\n", 0, end.end() if end else len(data)) > HEAD_LINES


def parse_upgrade(data: bytes, path: bytes) -> Upgrade | None:
    """The upgrade to a WebSocket at `path` that `data`, the first bytes of a connection, begin with.

    None unless the request is complete, in ASCII and plain. Not plain are: another method, target or version
    (RFC 9112, section 3); a field line that is folded or ends in a bare newline (sections 2.2 and 5.2); a body
    (section 6); a head or a Host that no request may have; a field of the handshake that is missing, doubled, or has
    another value than RFC 6455, section 4.2.1 asks for.
    """
    request_line = b"GET %s HTTP/1.1\r\n" % path
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
    if end < 0 or not data.startswith(request_line) or not _FIELDS.fullmatch(data, len(request_line), end + 2):
        return None
    handshake: dict[bytes, bytes] = {}
    for line in data[len(request_line) : end].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _NO_BODY or name in handshake:
            return None
        if name in _TAKEN:
            handshake[name] = value.strip(b" \t")
    if not handshake.keys() >= _ONE_VALUE:
        return None
    tokens = [token.strip(b" \t") for token in handshake[b"connection"].lower().split(b",")]
    is_plain = (
        b"upgrade" in tokens
        and is_host(handshake[b"host"])
        and not has_too_many_lines(data)
        and handshake[b"upgrade"].lower() == b"websocket"
        and handshake[b"sec-websocket-version"] == b"13"
        and _KEY.fullmatch(handshake[b"sec-websocket-key"]) is not None
    )
    if not is_plain:
        return None
    origin = handshake.get(b"origin")
    return Upgrade(
        handshake[b"sec-websocket-key"],
        data[end + 4 :],
        handshake.get(b"x-forwarded-for", b"").decode("ascii"),
        None if origin is None else origin.decode("ascii"),
    )
