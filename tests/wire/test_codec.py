"""Every message comes back as it was, and everything else is an `InvalidMessage` that names the field."""

import json
from typing import Any

import orjson
import pytest
from attrs import evolve
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from fuzz.codec import check
from ironwire.errors import InvalidMessage, UnknownVerb
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.wire import strict
from ironwire.wire.codec import (
    ServerFrame,
    accepted,
    decode_client,
    decode_server,
    encode,
    encode_payload,
    frame_text,
    relayed_text,
    text_payload,
)
from ironwire.wire.messages import (
    DELIVERIES,
    NUMBERED,
    Accepted,
    Auth,
    AuthChallenge,
    AuthOk,
    ClientMessage,
    DeliveredFile,
    DeliveredText,
    Error,
    File,
    ServerMessage,
    Text,
    Verify,
)
from ironwire.wire.messages.fields import SAFE_INTEGER
from tests.strategies import (
    any_frame_text,
    client_messages,
    json_values,
    message_ids,
    messages_of,
    mutated_frames,
    server_messages,
)

ALICE, BOB = ClientId("a1" * 32), ClientId("b2" * 32)
URL = "/media/01234567-89ab-4def-8123-456789abcdef.bin"


# --- valid frames ----------------------------------------------------------------------------------------------------


@given(client_messages(), st.none() | message_ids())
def test_a_client_message_comes_back(message: ClientMessage, id_: MessageId | None) -> None:
    assert decode_client(encode(message, id_).decode()) == (message, id_, None)


@given(st.one_of([messages_of(cls) for cls in NUMBERED]), st.none() | message_ids(), st.integers(1, SAFE_INTEGER))
def test_a_numbered_message_comes_back(message: ClientMessage, id_: MessageId | None, n: int) -> None:
    assert decode_client(encode(message, id_, n).decode()) == (message, id_, n)


@pytest.mark.parametrize("n", [None, 0, -1, "1", 1.0, True, 2**53])
def test_a_number_is_an_integer_above_0(n: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_client(json.dumps({"type": "text", "id": "a", "n": n, "payload": {"to": BOB, "text": ""}}))
    assert (caught.value.detail, caught.value.id, caught.value.n) == ("n must be an integer above 0", "a", None)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "ack", "payload": {"upto": 1}},
        {"type": "shout", "payload": {}},
        {"payload": {}},
        {"type": "text", "id": 5, "payload": {"to": BOB, "text": ""}},
        {"type": "text", "payload": {"to": BOB}},
        {"type": "text", "payload": {"to": BOB, "text": ""}, "seq": 1},
        {"type": "text", "id": "a", "payload": {"to": BOB, "text": "\ud83d"}},
    ],
)
def test_a_readable_number_is_in_the_error(frame: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_client(json.dumps(frame | {"n": 7}))
    assert caught.value.n == 7


@given(server_messages(), st.none() | message_ids())
def test_a_server_message_comes_back(message: ServerMessage, id_: MessageId | None) -> None:
    assert decode_server(encode(message, id_)) == ServerFrame(message, id_, None)


@given(messages_of(DeliveredText))
def test_a_relayed_text_is_the_frame_that_encode_writes(message: DeliveredText) -> None:
    assert relayed_text(message.sender, message.text) == encode(DeliveredText(message.sender, message.text))


@given(messages_of(DeliveredText))
def test_a_stored_text_has_the_payload_that_encode_payload_writes(message: DeliveredText) -> None:
    ts = message.ts or 0
    payload = text_payload(message.sender, message.text, ts, message.device, message.group)
    assert payload == encode_payload(evolve(message, ts=ts, to=None))


@given(messages_of(Accepted), message_ids())
def test_accepted_is_the_frame_that_encode_writes(message: Accepted, id_: MessageId) -> None:
    assert accepted(message.ts, id_) == encode(Accepted(message.ts), id_)


@given(st.one_of([messages_of(cls) for cls in DELIVERIES]), st.none() | message_ids(), st.integers(1, 2**53 - 1))
def test_a_delivery_comes_back_with_its_number(message: ServerMessage, id_: MessageId | None, seq: int) -> None:
    frame = frame_text(message.verb, encode_payload(message), id=id_, seq=seq)
    assert decode_server(frame) == ServerFrame(message, id_, seq)


@pytest.mark.parametrize(
    ("id_", "line"),
    [
        (None, f'{{"type":"text","seq":42,"payload":{{"from":"{ALICE}","text":"Hello","ts":7,"device":"phone"}}}}'),
        (
            "m1",
            f'{{"type":"text","seq":42,"id":"m1","payload":{{"from":"{ALICE}","text":"Hello","ts":7,"device":"phone"}}}}',
        ),
    ],
)
def test_a_delivery_byte_for_byte(id_: MessageId | None, line: str) -> None:
    message = DeliveredText(ALICE, "Hello", ts=7, device=DeviceId("phone"))
    assert frame_text("text", encode_payload(message), id=id_, seq=42) == line.encode()


_KEY, _NONCE, _SIGNATURE = "c3" * 32, "d4" * 32, "e5" * 64
_SEED_FROM_CLIENT = [
    (f'{{"type":"auth","payload":{{"token":"{_KEY}"}}}}', Auth(_KEY)),
    (f'{{"type":"verify","payload":{{"attempt":"{_SIGNATURE}"}}}}', Verify(_SIGNATURE)),
    (f'{{"type":"text","payload":{{"to":"{BOB}","text":"Hello"}}}}', Text(BOB, "Hello")),
    (f'{{"type":"file","payload":{{"to":"{BOB}","url":"{URL}"}}}}', File(BOB, URL)),
]
_SEED_FROM_SERVER = [
    (f'{{"type":"auth_challenge","challenge":"{_NONCE}"}}', AuthChallenge(_NONCE)),
    ('{"type":"auth_ok"}', AuthOk()),
    (f'{{"type":"text","payload":{{"from":"{ALICE}","text":"Hello"}}}}', DeliveredText(ALICE, "Hello")),
    (f'{{"type":"error","payload":{{"msg":"user_offline","user":"{BOB}"}}}}', Error("user_offline", user=BOB)),
    (f'{{"type":"file","payload":{{"from":"{ALICE}","url":"{URL}"}}}}', DeliveredFile(ALICE, URL)),
]


@pytest.mark.parametrize(("line", "message"), _SEED_FROM_CLIENT)
def test_the_seed_protocol_byte_for_byte_from_a_client(line: str, message: ClientMessage) -> None:
    assert decode_client(line) == (message, None, None)
    assert encode(message) == line.encode()


@pytest.mark.parametrize(("line", "message"), _SEED_FROM_SERVER)
def test_the_seed_protocol_byte_for_byte_from_the_server(line: str, message: ServerMessage) -> None:
    assert decode_server(line) == ServerFrame(message, None, None)
    assert encode(message) == line.encode()


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (Accepted(7), '{"type":"accepted","id":"m1","payload":{"ts":7}}'),
        (Accepted(7, duplicate=True), '{"type":"accepted","id":"m1","payload":{"ts":7,"duplicate":true}}'),
        (AuthChallenge(_NONCE), f'{{"type":"auth_challenge","id":"m1","challenge":"{_NONCE}"}}'),
        (Error("invalid", "payload.to is missing"),
         '{"type":"error","id":"m1","payload":{"msg":"invalid","detail":"payload.to is missing"}}'),
    ],
)  # fmt: skip
def test_an_id_stands_between_type_and_payload(message: ServerMessage, line: str) -> None:
    assert encode(message, MessageId("m1")) == line.encode()


# --- whatever else ---------------------------------------------------------------------------------------------------


@given(any_frame_text(client_messages()))
def test_any_text_is_a_message_or_invalid(text: str) -> None:
    check(text, decode_client)


@given(any_frame_text(server_messages()).map(str.encode) | st.binary())
def test_any_bytes_are_a_server_message_or_invalid(data: bytes) -> None:
    check(data, decode_server)


@given(st.text(st.characters(categories=["Cs"]), min_size=1), st.booleans())
def test_a_lone_surrogate_is_invalid(surrogates: str, escaped: bool) -> None:
    frame = _text(to=BOB, text="a".join(["", *surrogates]))
    for named in ({"id": "m1", "n": 7}, {"n": 7}, {"id": "m1"}, {}):
        with pytest.raises(InvalidMessage, match=r"^not JSON: ") as caught:
            decode_client(json.dumps(named | frame, ensure_ascii=escaped))
        assert (caught.value.id, caught.value.n) == (named.get("id"), named.get("n"))


@given(server_messages(), st.none() | message_ids(), st.dictionaries(st.text(), json_values()))
def test_a_client_ignores_keys_that_it_does_not_know(
    message: ServerMessage, id_: MessageId | None, more: dict[str, Any]
) -> None:
    frame: dict[str, Any] = json.loads(encode(message, id_))
    more = {f"x-{key}": value for key, value in more.items()}
    wider = {**more, **frame}
    if "payload" in frame:
        wider["payload"] = more | frame["payload"]
    assert decode_server(json.dumps(wider)) == ServerFrame(message, id_, None)


def test_a_client_ignores_verbs_that_it_does_not_know_unless_they_are_numbered() -> None:
    with pytest.raises(UnknownVerb):
        decode_server('{"type":"shouted","id":"1","payload":{"how":"loud"}}')
    with pytest.raises(InvalidMessage) as caught:
        decode_server('{"type":"shouted","seq":1,"payload":{"how":"loud"}}')
    assert not isinstance(caught.value, UnknownVerb)


def test_a_binary_frame_is_invalid() -> None:
    with pytest.raises(InvalidMessage, match=r"^binary frames are not part of the protocol$"):
        decode_client(b'{"type":"verify","payload":{"attempt":""}}')


@given(json_values())
def test_nothing_is_coerced_to_a_text(value: Any) -> None:
    assume(type(value) is not str)
    with pytest.raises(InvalidMessage, match=r"^payload\.text must be a string$"):
        decode_client(json.dumps({"type": "text", "payload": {"to": BOB, "text": value}}))


@given(json_values())
def test_nothing_is_coerced_to_an_integer(value: Any) -> None:
    assume(type(value) is not int)
    with pytest.raises(InvalidMessage, match=r"^payload\.ts must be an integer"):
        decode_server(json.dumps({"type": "accepted", "payload": {"ts": value}}))


@given(json_values())
def test_nothing_is_coerced_to_a_truth(value: Any) -> None:
    assume(type(value) is not bool)
    with pytest.raises(InvalidMessage, match=r"^payload\.duplicate must be true or false$"):
        decode_server(json.dumps({"type": "accepted", "payload": {"ts": 1, "duplicate": value}}))


# --- what an error says ----------------------------------------------------------------------------------------------


def _text(**payload: Any) -> dict[str, Any]:
    return {"type": "text", "payload": payload}


def _file(**optional: Any) -> dict[str, Any]:
    return {"type": "file", "payload": {"to": BOB, "url": URL, **optional}}


_ADDRESS = "a client id (64 lowercase hex digits) or a group id (# and 32 lowercase hex digits)"
_MEDIA = "/media/<uuid4>.bin, as POST /upload answered"

DETAILS: list[tuple[Any, str]] = [
    # the frame
    ([], "a frame must be one JSON object"),
    ("text", "a frame must be one JSON object"),
    (None, "a frame must be one JSON object"),
    ({}, "type is missing"),
    ({"type": None}, "type must be a string"),
    ({"type": ["text"]}, "type must be a string"),
    ({"type": "shout"}, "type 'shout' is not a verb"),
    ({"type": "Text"}, "type 'Text' is not a verb"),
    ({"type": "accepted"}, "type 'accepted' is not a verb"),
    ({"type": "x" * 40}, f"type '{'x' * 32}…' is not a verb"),
    ({"type": "a\nb\x00"}, "type 'a\\nb\\x00' is not a verb"),
    (_text(to=BOB, text="") | {"seq": 1}, "'seq' is not a key of a frame"),
    (_text(to=BOB, text="") | {"id": 5}, "id must be a string"),
    (_text(to=BOB, text="") | {"id": None}, "id must be a string"),
    (_text(to=BOB, text="") | {"id": ""}, "id must be 1 to 64 characters from U+0020 to U+007E"),
    (_text(to=BOB, text="") | {"id": "x" * 65}, "id must be 1 to 64 characters from U+0020 to U+007E"),
    (_text(to=BOB, text="") | {"id": "a\tb"}, "id must be 1 to 64 characters from U+0020 to U+007E"),
    # the payload
    ({"type": "text"}, "payload.to is missing"),
    ({"type": "text", "payload": None}, "payload must be an object"),
    ({"type": "text", "payload": [BOB, "hi"]}, "payload must be an object"),
    (_text(), "payload.to is missing"),
    (_text(to=BOB), "payload.text is missing"),
    (_text(text="hi"), "payload.to is missing"),
    (_text(to=BOB, text="hi", color="red"), "payload.'color' is not a known key"),
    (_text(to=BOB, text=5), "payload.text must be a string"),
    (_text(to=BOB, text=None), "payload.text must be a string"),
    (_text(to=5, text="hi"), "payload.to must be a string"),
    (_text(to=BOB.upper(), text="hi"), f"payload.to must be {_ADDRESS}"),
    (_text(to=BOB + "\n", text="hi"), f"payload.to must be {_ADDRESS}"),
    (_text(to="#" + "0" * 31, text="hi"), f"payload.to must be {_ADDRESS}"),
    (_text(to=1, text=2), "payload.to must be a string"),
    ({"type": "auth", "payload": {"token": "x", "device": "my phone"}},
     "payload.device must be a device id: 1 to 64 characters of A-Z a-z 0-9 . _ -"),
    ({"type": "auth", "payload": {"token": "x", "device": None}}, "payload.device must be a string"),
    ({"type": "auth", "payload": {"token": "x", "origin": ""}}, "payload.origin must have 1 to 255 characters"),
    ({"type": "auth", "payload": {"token": "x", "origin": "o" * 256}}, "payload.origin must have 1 to 255 characters"),
    # a file's many bounds
    (_file(url="/media/../secret"), f"payload.url must be {_MEDIA}"),
    (_file(url="https://elsewhere.example/x.bin"), f"payload.url must be {_MEDIA}"),
    (_file(url=URL + "\n"), f"payload.url must be {_MEDIA}"),
    (_file(url=URL + "?x"), f"payload.url must be {_MEDIA}"),
    (_file(kind="video"), "payload.kind must be one of file, image, voice, circle"),
    (_file(kind=["file"]), "payload.kind must be one of file, image, voice, circle"),
    (_file(name="n" * 256), "payload.name must have 0 to 255 characters"),
    (_file(mime="jpeg"), "payload.mime must be a media type such as image/jpeg"),
    (_file(mime="image/jpeg; charset=utf-8"), "payload.mime must be a media type such as image/jpeg"),
    (_file(size=-1), "payload.size must be from 0 to 9007199254740991"),
    (_file(size="5"), "payload.size must be an integer inside ±2^53"),
    (_file(size=True), "payload.size must be an integer inside ±2^53"),
    (_file(size=5.0), "payload.size must be an integer inside ±2^53"),
    (_file(size=2**53), "payload.size must be an integer inside ±2^53"),
    (_file(size=10**40), "payload.size must be an integer inside ±2^53"),
    (_file(sha256="AB" * 32), "payload.sha256 must be 64 lowercase hex digits"),
    (_file(duration_ms=86_400_001), "payload.duration_ms must be from 0 to 86400000"),
    (_file(width=0), "payload.width must be from 1 to 65535"),
    (_file(height=65_536), "payload.height must be from 1 to 65535"),
    (_file(waveform="0" * 64), "payload.waveform must be a list"),
    (_file(waveform=[0] * 63), "payload.waveform must have 64 to 64 items"),
    (_file(waveform=[0] * 7 + [256]), "payload.waveform[7] must be from 0 to 255"),
    (_file(waveform=[0, False]), "payload.waveform[1] must be an integer inside ±2^53"),
    (_file(caption="c" * 4097), "payload.caption must have 0 to 4096 characters"),
]  # fmt: skip


@pytest.mark.parametrize(
    "optional",
    [
        {"name": ""},
        {"name": "n" * 255},
        {"mime": "a/" + "b" * 64},
        {"size": 0},
        {"size": 2**53 - 1},
        {"duration_ms": 0},
        {"duration_ms": 86_400_000},
        {"width": 1, "height": 1},
        {"width": 65_535, "height": 65_535},
        {"waveform": [0, 255] * 32},
        {"caption": "c" * 4096},
    ],
    ids=lambda optional: ", ".join(optional),
)
def test_a_bound_is_included(optional: dict[str, Any]) -> None:
    assert decode_client(json.dumps(_file(**optional)))[0] == File(BOB, URL, **optional)


@pytest.mark.parametrize(("frame", "detail"), DETAILS, ids=[detail for _, detail in DETAILS])
def test_an_error_names_the_field(frame: Any, detail: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_client(json.dumps(frame))
    assert caught.value.detail == detail


@pytest.mark.parametrize(
    ("frame", "detail"),
    [
        ({"type": "text", "payload": {"text": "hi"}}, "payload.from is missing"),
        ({"type": "text", "payload": {"sender": ALICE, "text": "hi"}}, "payload.from is missing"),
        ({"type": "text", "payload": {"from": "me", "text": "hi"}},
         "payload.from must be a client id: 64 lowercase hex digits"),
        ({"type": "accepted"}, "payload.ts is missing"),
        ({"type": "auth_ok", "payload": {"limits": {"frame_bytes": 1}}},
         "payload.limits.server_frame_bytes is missing"),
        ({"type": "auth_ok", "payload": {"limits": {"frame_bytes": "1", "upload_bytes": 1}}},
         "payload.limits.frame_bytes must be an integer inside ±2^53"),
        ({"type": "auth_ok", "payload": {"limits": []}}, "payload.limits must be an object"),
        ({"type": "auth_ok", "payload": {"features": ["a", 5]}}, "payload.features[1] must be a string"),
        ({"type": "auth_challenge", "payload": {"challenge": _NONCE}}, "payload.challenge is missing"),
        ({"type": "auth_challenge"}, "payload.challenge is missing"),
        ({"type": ["text"], "seq": 1}, "type must be a string"),
        ({"type": "accepted", "seq": 1, "payload": {"ts": 1}}, "type 'accepted' is not a verb"),
        ({"type": "shouted", "seq": 1, "payload": {}}, "type 'shouted' is not a verb"),
        *(
            ({"type": "text", "seq": seq, "payload": {"from": ALICE, "text": "hi"}}, "seq must be an integer above 0")
            for seq in (None, 0, -1, "1", 1.0, True, 2**53)
        ),
    ],
)  # fmt: skip
def test_an_error_about_a_server_frame_names_the_field(frame: Any, detail: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_server(json.dumps(frame))
    assert caught.value.detail == detail


@pytest.mark.parametrize("text", ["", "{", "{'type':'text'}", '{"a":NaN}', '{"a":1e400}', "\x00", "[" * 100_000])
def test_what_is_not_json_is_said_to_be_so(text: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^not JSON: .* at character \d+$"):
        decode_client(text)


@given(mutated_frames(client_messages()), message_ids())
def test_a_readable_id_is_in_the_error(text: str, id_: MessageId) -> None:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        reject()  # nested too deeply
    frame["id"] = id_
    try:
        echoed: str | None = decode_client(json.dumps(frame))[1]
    except InvalidMessage as invalid:
        echoed = invalid.id
    assert echoed == id_


def test_an_unreadable_id_is_not_in_the_error() -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_client('{"type":"text","id":{"a":1},"payload":{}}')
    assert caught.value.id is None


@pytest.mark.parametrize("constraint", ["a bound", None])
def test_a_constraint_without_a_rule_is_refused_when_the_codec_is_built(constraint: Any) -> None:
    with pytest.raises(TypeError, match="no rule for the constraint"):
        strict._constrained(lambda value, _: value, constraint)
