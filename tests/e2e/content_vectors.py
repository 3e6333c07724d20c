"""The inside of messages: what their JSON says, and what is refused."""

from typing import Any

from ironwire.e2e.bodies import (
    AnyBody,
    CallBody,
    ContactName,
    DeleteBody,
    DeviceName,
    EditBody,
    FileBody,
    GroupBody,
    HistoryManifest,
    HistoryPart,
    LogBody,
    MessageName,
    ProfileBody,
    ReactionBody,
    ReadMark,
    ReceiptBody,
    ResendBody,
    RevokeMeBody,
    SealedFile,
    SyncBody,
    TextBody,
    TypingBody,
    VerifiedMark,
)
from ironwire.e2e.content import Content, KnownHead, encode_content
from ironwire.ids import CallId, ClientId, GroupId, MessageId
from ironwire.wire.messages import Candidate

ALICE, BOB = ClientId("a1" * 32), ClientId("b0" * 32)
FILE = SealedFile("/media/123e4567-e89b-42d3-a456-426614174000.bin", "A" * 43, 5, "5a" * 32)
NAME = MessageName(BOB, MessageId("9f2c"))
CALL = CallId("00112233445566778899aabbccddeeff")
TS = 1_790_000_000_000

BODIES: list[AnyBody] = [
    TextBody("Hello \U0001f600\n\u202e"),
    TextBody("Yes", NAME),
    FileBody(FILE),
    FileBody(FILE, "voice", "a.ogg", "audio/ogg", 2940, waveform=[0, 255] * 32),
    FileBody(FILE, "image", width=4, height=3, thumbnail="_9j_", caption="one\ntwo", reply=NAME),
    ReactionBody(NAME, "\U0001f44d\U0001f3fd"),
    ReactionBody(NAME),
    EditBody(MessageId("9f2c"), "Hello!"),
    DeleteBody(MessageId("9f2c")),
    ReceiptBody([MessageId("1"), MessageId("2")], "read"),
    TypingBody(True),
    ProfileBody("Alice", FILE),
    GroupBody("Friends"),
    CallBody(CALL, sdp="v=0\r\n"),
    CallBody(CALL, candidate=Candidate("candidate:1", "0", 0)),
    ResendBody([MessageId("9f2c")]),
    RevokeMeBody(),
    SyncBody(
        [VerifiedMark(BOB, True, TS, "d0" * 32)],
        [ContactName("bob", TS, "d0" * 32, BOB), ContactName("eve", TS, "d0" * 32)],
        [ReadMark(GroupId("#" + "0f" * 16), TS)],
        [DeviceName("d0" * 32, "Firefox on Linux", TS, "d0" * 32)],
        "5a" * 32,
        HistoryManifest("d0" * 32, [HistoryPart(FILE, TS - 5, TS, 2)], 2, True),
    ),
    SyncBody(state="5a" * 32),
    SyncBody(),
]

REFUSED: list[tuple[str, str]] = [
    ("invalid", ""),
    ("invalid", "[]"),
    ("invalid", '"text"'),
    ("invalid", '{"id":"1","ts":1,"t":"text","text":"no v"}'),
    ("invalid", '{"v":0,"id":"1","ts":1,"t":"text","text":""}'),
    ("invalid", '{"v":true,"id":"1","ts":1,"t":"text","text":""}'),
    ("invalid", '{"v":1.0,"id":"1","ts":1,"t":"text","text":""}'),
    ("update", '{"v":2,"anything":"else"}'),
    ("update", '{"v":1,"id":"1","ts":1,"t":"poll","question":"?"}'),
    ("update", '{"v":1,"t":"Text"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"text":"no t"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":null,"text":""}'),
    ("invalid", '{"v":1,"id":"","ts":1,"t":"text","text":""}'),
    ("invalid", '{"v":1,"ts":1,"t":"text","text":"no id"}'),
    ("invalid", '{"v":1,"id":"1","ts":-1,"t":"text","text":""}'),
    ("invalid", '{"v":1,"id":"1","ts":"1","t":"text","text":""}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"text"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"text","text":null}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"text","text":"\\ud83d"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"text","text":"","reply":{"id":"1"}}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"receipt","ids":[],"state":"read"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"profile","name":"a\\u0000b"}'),
    ("invalid", f'{{"v":1,"id":"1","ts":1,"t":"call","call":"{CALL}"}}'),
    ("invalid", f'{{"v":1,"id":"1","ts":1,"t":"call","call":"{CALL}","sdp":"v","candidate":{{"candidate":""}}}}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"log"}'),
    ("invalid", '{"v":1,"id":"1","ts":1,"t":"text","text":"","logs":[]}'),
    ("invalid", f'{{"v":1,"id":"1","ts":1,"t":"text","text":"","logs":[{{"client":"{ALICE}","index":0}}]}}'),
]
"""Why, and a text. In all of them the envelope is called `1`."""


def cases() -> list[dict[str, Any]]:
    contents = [Content(MessageId(str(number)), TS, body) for number, body in enumerate(BODIES)]
    heads = [KnownHead(ALICE, 3, "9c" * 32), KnownHead(BOB, 0, "0c" * 32)]
    contents += [
        Content(MessageId("log"), TS, LogBody(), heads),
        Content(MessageId("with logs"), 0, TextBody(""), heads[:1]),
    ]
    taken = [{"id": content.id, "json": encode_content(content).decode()} for content in contents]
    return taken + [{"id": "1", "json": text, "refused": why} for why, text in REFUSED]
