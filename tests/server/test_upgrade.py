"""The plain upgrade: what it accepts, h11 and wsproto read in the same way; what it does not, is left to them."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from ironwire.server.listener.upgrade import HEAD_BYTES, Upgrade, parse_upgrade
from tests.server.raw_client import KEY, upgrade_request

PATH = b"/ws"
PLAIN = upgrade_request()

FIREFOX = (
    b"GET /ws HTTP/1.1\r\nHost: chat.example\r\nUser-Agent: Mozilla/5.0 (X11; rv:140.0)\r\nAccept: */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nSec-WebSocket-Version: 13\r\n"
    b"Origin: https://chat.example\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nConnection: keep-alive, Upgrade\r\nCookie: a=1; b=2\r\n"
    b"Sec-Fetch-Dest: empty\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nUpgrade: websocket\r\n\r\n"
)
FORWARDED = upgrade_request("/ws", b"X-Forwarded-For: 192.0.2.1, 192.0.2.2", b"Via: 1.1 a", b"Via: 1.1 b", b"X-Empty:")


@pytest.mark.parametrize(
    ("request_bytes", "upgrade"),
    [
        (PLAIN, Upgrade(KEY, b"early")),
        (FIREFOX, Upgrade(KEY, b"early", origin="https://chat.example")),
        (FORWARDED, Upgrade(KEY, b"early", forwarded_for="192.0.2.1, 192.0.2.2")),
    ],
    ids=["plain", "browser", "proxy"],
)
def test_what_clients_send_is_plain(request_bytes: bytes, upgrade: Upgrade) -> None:
    assert parse_upgrade(request_bytes + b"early", PATH) == upgrade


def test_the_answer_is_that_of_the_rfc() -> None:
    assert Upgrade(KEY, b"").answer([(b"date", b"today")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\ndate: today\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("plain", "changed"),
    [
        (b"GET ", b"POST "),
        (b"GET ", b"get "),
        (b"/ws ", b"/elsewhere "),
        (b"/ws ", b"/ws?query "),
        (b"/ws ", b"http://localhost/ws "),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"GET ", b"\r\nGET "),
        (b"Host: localhost\r\n", b""),
        (b"Host: localhost\r\n", b"Host: a\r\nHost: b\r\n"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
        (b"Connection: Upgrade", b"Connection: close"),
        (b"Version: 13", b"Version: 8"),
        (b"Version: 13", b"Version: 13, 8"),
        (KEY, b"x" * 24),
        (KEY, KEY[:-2]),
        (KEY, b"dGhlIHNhbXBsZSBub25jZR=="),
        (KEY, KEY + b"\r\nSec-WebSocket-Key: " + KEY),
        (b"Host: localhost", b"Host: localhost\r\nContent-Length: 0"),
        (b"Host: localhost", b"Host: localhost\r\nTransfer-Encoding: chunked"),
        (b"Host: localhost", b"Host: localhost\r\nExpect: 100-continue"),
        (b"Host: localhost", b"Host: localhost\r\nOrigin: http://a\r\nOrigin: http://b"),
        (b"Host: localhost", b"Host: localhost\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2"),
        (b"Host: localhost", b"Host: a b"),
        (b"Host: localhost", b"Host: user@localhost"),
        (b"Host: localhost", b"Host: localhost/path"),
        (b"Host: localhost", b"Host: localhost" + 125 * b"\r\nX: y"),
        (b"Host: localhost", b"Host: localhost\r\n folded"),
        (b"Host: localhost", b"Host: localhost\nX: bare newline"),
        (b"Host: localhost", b"Host: localhost\rX: bare return"),
        (b"Host: localhost", b"Host : localhost"),
        (b"Host: localhost", b"Host: localhost\r\nno colon"),
        (b"Host: localhost", b"Host: local\xffhost"),
        (b"Host: localhost", b"Host: local\x00host"),
        (b"Host: localhost", b"Host: localhost\r\nX: " + b"x" * HEAD_BYTES),
    ],
)
def test_everything_else_is_left_to_others(plain: bytes, changed: bytes) -> None:
    assert plain in PLAIN
    assert parse_upgrade(PLAIN.replace(plain, changed, 1), PATH) is None


def test_a_request_that_is_not_wholly_there_is_left_to_others() -> None:
    assert [parse_upgrade(PLAIN[:size], PATH) for size in range(len(PLAIN))] == [None] * len(PLAIN)


FIELDS = st.sampled_from(
    [
        b"Host: localhost",
        b"host:\tlocalhost ",
        b"Upgrade: WebSocket",
        b"upgrade:websocket",
        b"Connection: keep-alive , UPGRADE",
        b"Connection: Upgrade,",
        b"Sec-WebSocket-Version: 13\t",
        b"SEC-WEBSOCKET-KEY:" + KEY,
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Sec-WebSocket-Protocol: chat",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"X: ",
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n"])


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A plain request with its fields in any order, others between them, and now and then a byte out of place."""
    lines = draw(st.permutations(PLAIN.strip().split(b"\r\n")[1:]))
    for field in draw(st.lists(FIELDS, max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), field)
    ends = [b"\r\n"] * len(lines)
    if draw(st.booleans()):
        ends[draw(st.integers(0, len(ends) - 1))] = draw(ENDS)
    head = b"".join(line + end for line, end in zip(lines, ends, strict=True))
    request = bytearray(b"GET /ws HTTP/1.1\r\n" + head + b"\r\n" + draw(st.binary(max_size=8)))
    for _ in range(draw(st.integers(0, 2))):
        request[draw(st.integers(0, len(request) - 1))] = draw(st.integers(0, 255))
    return bytes(request)


@given(nearly_plain())
@example(PLAIN + b"\r\n")
@example(FIREFOX)
@example(FORWARDED)
def test_what_is_accepted_is_read_in_the_same_way_by_h11_and_wsproto(data: bytes) -> None:
    upgrade = parse_upgrade(data, PATH)
    if upgrade is None:
        return
    http = h11.Connection(h11.SERVER)
    http.receive_data(data)
    request = http.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (b"GET", PATH, b"1.1")
    assert isinstance(http.next_event(), h11.EndOfMessage)
    assert http.next_event() is h11.PAUSED
    assert http.trailing_data[0] == upgrade.leftover

    websocket = WSConnection(ConnectionType.SERVER)
    websocket.receive_data(data[: len(data) - len(upgrade.leftover)])
    assert isinstance(next(websocket.events()), Request)
    expected = fields_of(websocket.send(AcceptConnection()))
    assert fields_of(upgrade.answer([]))[b"sec-websocket-accept"] == expected[b"sec-websocket-accept"]


def fields_of(response: bytes) -> dict[bytes, bytes]:
    status_line, *lines = response.strip().split(b"\r\n")
    assert status_line.startswith(b"HTTP/1.1 101 ")
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
