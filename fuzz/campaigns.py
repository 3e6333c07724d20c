"""The campaigns by name: what is checked, and what Hypothesis feeds it with.

`inputs` makes bytes that nearly mean something; bytes that mean nothing at all are the business of atheris.
"""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from attrs import frozen
from hypothesis import strategies as st

from fuzz import codec, conversations, devices, e2e, frames, http, mls, session
from fuzz.house import BLOB_NAME
from fuzz.session import PARTICIPANTS, SAYINGS, chunk, step
from ironwire.e2e.content import encode_content
from ironwire.ids import ClientId, Role
from ironwire.protocol.conversations.declaration import Declaration, Op, encode_roster, roster_hash
from tests.e2e.strategies import contents
from tests.e2e.vectors import known_inputs
from tests.server.raw_client import upgrade_request
from tests.strategies import any_frame_text, client_messages, server_messages
from tests.wire.frame_builder import BINARY, BOUNDARY_LENGTHS, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

HERE = Path(__file__).parent

Bytes = st.SearchStrategy[bytes]


@frozen
class Campaign:
    name: str
    one: Callable[[bytes], None]
    """Takes any bytes; raises for nothing but a bug."""
    inputs: Bytes

    @property
    def corpus(self) -> Path:
        """Inputs to begin with, each of a kind."""
        return HERE / "corpus" / self.name

    @property
    def findings(self) -> Path:
        """Inputs that once failed."""
        return HERE / "findings" / self.name

    def files(self) -> list[Path]:
        """Every input on record, in a fixed order."""
        return [path for folder in (self.corpus, self.findings) for path in sorted(folder.glob("*")) if path.is_file()]


def _joined(parts: Bytes, *, least: int = 0, most: int) -> Bytes:
    return st.lists(parts, min_size=least, max_size=most).map(b"".join)


# --- frames ----------------------------------------------------------------------------------------------------------


def _frames() -> Bytes:
    payloads = (
        st.binary(max_size=130)
        | st.text(max_size=60).map(str.encode)
        | st.sampled_from(BOUNDARY_LENGTHS).map(lambda size: b"a" * size)
        | st.integers(990, 5001).map(lambda code: code.to_bytes(2, "big"))
    )
    opcodes = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG]) | st.integers(0, 15)
    one_frame = st.builds(
        frame,
        opcodes,
        payloads,
        fin=st.booleans(),
        rsv=st.sampled_from([0] * 12 + [1, 2, 4]),
        mask=st.sampled_from([b"\x37\xfa\x21\x3d", b"\0\0\0\0", None]),
        length_bytes=st.sampled_from([None, None, None, 8]),
        declared=st.none() | st.integers(0, 125),
    )
    one_too_long = st.builds(frame, opcodes, st.binary(max_size=130), length_bytes=st.just(2))
    choices = st.binary(min_size=5, max_size=5)
    return st.builds(bytes.__add__, choices, _joined(one_frame | one_too_long | st.binary(max_size=8), most=8))


# --- codec -----------------------------------------------------------------------------------------------------------


def _codec() -> Bytes:
    return any_frame_text(client_messages() | server_messages()).map(lambda text: text.encode(errors="surrogatepass"))


# --- devices ---------------------------------------------------------------------------------------------------------


def _devices() -> Bytes:
    keys = st.sampled_from(devices.KEYS) | st.binary(min_size=32, max_size=32)
    signed = st.builds(
        devices.signed_entry,
        st.integers(0, 2) | st.integers(0, 2**32 - 1),
        st.sampled_from([bytes(32), b"\1" * 32, *devices.HEADS]),
        st.integers(1, 3) | st.integers(0, 255),
        st.lists(keys, max_size=4).map(sorted) | st.lists(keys, max_size=3),
        flags=st.integers(0, 1) | st.integers(0, 255),
        time=st.integers(0, 2**64 - 1),
        count=st.none() | st.integers(0, 255),
    )
    certificates = st.builds(devices.certified, keys, st.integers(0, 2**64 - 1))
    known = st.sampled_from(devices.LOG)
    torn = st.builds(lambda data, end: data[:end], signed | known | certificates, st.integers(0, 200))
    return _joined(signed | signed | known | certificates | torn, most=4)


# --- what devices write for devices ----------------------------------------------------------------------------------


def _e2e() -> Bytes:
    """The known answers, with a change here and there."""
    known = [e2e.for_target(name, data) for name, answers in known_inputs().items() for data in answers]
    torn = st.builds(
        lambda data, place, size, more: data[:place] + more + data[place + size :],
        st.sampled_from(known),
        st.integers(1, 400),
        st.integers(0, 4),
        st.binary(max_size=4),
    )
    messages = contents().map(lambda content: e2e.for_target("content", encode_content(content)))
    return st.sampled_from(known) | torn | torn.flatmap(lambda data: st.binary().map(data.__add__)) | messages


# --- session ---------------------------------------------------------------------------------------------------------


def _session() -> Bytes:
    small = st.integers(0, 255).map(lambda number: bytes([number]))
    sayings = st.integers(0, len(SAYINGS) - 1).map(lambda number: bytes([number]))
    chunks = st.binary(max_size=40).map(chunk)
    operands: dict[int, Bytes] = {
        session.CONNECT: small,
        session.AUTHENTICATE: small,
        session.VERIFY: st.sampled_from([b"\0", b"\0", b"\0", b"\1"]),
        session.SAY: sayings,
        session.REPEAT: st.builds(bytes.__add__, small, sayings),
        session.MISSPEAK: st.builds(lambda *parts: b"".join(parts), sayings, small, small, chunks),
        session.SAY_AT_LENGTH: st.builds(bytes.__add__, chunks, small),
        session.SEND_FRAME: st.builds(bytes.__add__, small, chunks),
        session.SEND_BYTES: chunks,
        session.LEAVE: small,
        session.WAIT: small,
        session.LISTEN: st.just(b""),
    }
    participants = st.integers(0, PARTICIPANTS - 1)
    one_step = st.sampled_from(sorted(operands)).flatmap(
        lambda kind: st.builds(step, st.just(kind), participants, operands[kind], is_hasty=st.booleans())
    )
    logged_in = st.builds(
        lambda number, connect, auth: (
            step(session.CONNECT, number, connect)
            + step(session.AUTHENTICATE, number, auth)
            + step(session.VERIFY, number, b"\0")
        ),
        participants,
        st.sampled_from([b"\0", b"\2", b"\4"]),
        small,
    )
    said = st.builds(step, st.just(session.SAY), participants, sayings, is_hasty=st.booleans())
    dialogue = _joined(one_step | said | logged_in, least=8, most=30)
    return st.builds(bytes.__add__, _joined(logged_in, most=PARTICIPANTS), dialogue)


# --- MLS -------------------------------------------------------------------------------------------------------------


@st.composite
def _mls(draw: st.DrawFn) -> bytes:
    """A message that is good but for a few bytes, or that somebody else should have got."""
    made = draw(st.sampled_from(sorted(mls.WORLD.inputs.values())))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(made)))
        made = made[:place] + draw(st.binary(max_size=4)) + made[place + draw(st.integers(0, 4)) :]
    return made


# --- conversations ---------------------------------------------------------------------------------------------------


def _declarations() -> Bytes:
    clients = st.sampled_from([conversations.ANN, conversations.BOB])
    several = st.sets(clients).map(lambda found: tuple(sorted(found)))
    roles: st.SearchStrategy[dict[ClientId, Role]] = st.dictionaries(clients, st.sampled_from(["admin", "member"]))
    declared = st.builds(
        Declaration,
        by=clients,
        op=st.sampled_from(get_args(Op)),
        add=several,
        remove=several,
        roles=roles,
        name=st.none() | st.just("1" * 64),
        roster=(roles | st.just(conversations.ROSTER)).map(roster_hash),
        re=st.none() | st.just("task 7"),
    )
    return declared.map(Declaration.encode) | roles.map(encode_roster)


@st.composite
def _conversations(draw: st.DrawFn) -> bytes:
    """A declaration or a roster, with a few bytes changed."""
    made = draw(_declarations())
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(made)))
        made = made[:place] + draw(st.binary(max_size=3)) + made[place + draw(st.integers(0, 3)) :]
    return made


# --- HTTP ------------------------------------------------------------------------------------------------------------

_TARGETS = [
    "/",
    "/ws",
    "/upload",
    "/healthz",
    "/readyz",
    "/metrics",
    f"/media/{BLOB_NAME}",
    "/link/" + "1f" * 16,
    "/backup/" + "1f" * 16,
    "/link/1f",
    "/media/../media/x",
    "/media/%2e%2e/%2e%2e/etc/passwd",
    "/media//",
    "*",
    "http://localhost/",
    "//",
    "/?" + "a" * 3000,
    "/%ff%00",
    "/\u00ff",
]
_HEADERS = [
    "Host: localhost",
    "Host: a, b",
    "Connection: close",
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Key: \u00ff",
    "Sec-WebSocket-Protocol: a,,b",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    "Range: bytes=0-4",
    "Range: bytes=-5",
    "Range: bytes=-0",
    "Range: bytes=999-",
    "Range: bytes=5-1",
    "Range: bytes=0-0,2-3",
    "Range: lines=1-2",
    'If-None-Match: "00000000-0000-4000-8000-000000000000"',
    "If-None-Match: *",
    "If-Match: nothing",
    'If-Range: W/"x"',
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: -1",
    "Content-Length: 31457281",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Expect: 100-continue",
    "Cookie: " + "a" * 9000,
    "X: \u00e9",
    " folded: line",
    "no colon",
]
_BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;extension=1\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
    b"-5\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFFFFFFF\r\n",
    b"zz\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
]
_PREFACES = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"\r\n\r\n",
    b"\0",
]


def _http() -> Bytes:
    latin = "latin-1"
    requests = st.builds(
        lambda method, target, version, headers, end, body: (
            "\r\n".join([f"{method} {target} HTTP/{version}", "Host: localhost", *headers]).encode(latin) + end + body
        ),
        st.sampled_from(["GET"] * 4 + ["HEAD", "POST", "POST", "PUT", "OPTIONS", "CONNECT", "get", "G E T"]),
        st.sampled_from(_TARGETS),
        st.sampled_from(["1.1"] * 8 + ["1.0", "0.9", "2.0", "1.10"]),
        st.lists(st.sampled_from(_HEADERS) | st.text(st.characters(max_codepoint=255), max_size=20), max_size=5),
        st.sampled_from([b"\r\n\r\n"] * 8 + [b"\r\n", b"\n\n"]),
        st.sampled_from(_BODIES) | st.binary(max_size=30),
    )
    upgrades = st.builds(
        lambda header, trailing: upgrade_request("/ws", header.encode(latin)) + trailing,
        st.sampled_from(_HEADERS),
        st.binary(max_size=20) | st.sampled_from(SAYINGS).map(lambda saying: frame(TEXT, saying.encode())),
    )
    choices = st.sampled_from([b"\0", b"\x80", b"\1", b"\x87"]) | st.binary(min_size=1, max_size=1)
    return st.builds(bytes.__add__, choices, _joined(requests | upgrades | st.sampled_from(_PREFACES), most=3))


CAMPAIGNS = {
    campaign.name: campaign
    for campaign in (
        Campaign("frames", frames.one, _frames()),
        Campaign("codec", codec.one, _codec()),
        Campaign("devices", devices.one, _devices()),
        Campaign("e2e", e2e.one, _e2e()),
        Campaign("conversations", conversations.one, _conversations()),
        Campaign("session", session.one, _session()),
        Campaign("mls", mls.one, _mls()),
        Campaign("http", http.one, _http()),
    )
}
