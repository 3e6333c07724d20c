"""A decoder of the seed verbs written from docs/protocol.md alone, as plainly as can be: the codec has to agree."""

import re
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidMessage
from ironwire.wire.codec import decode_client
from ironwire.wire.messages import Auth, File, Text, Verify
from tests.strategies import any_frame_text, messages_of, mutated_frames


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _is_message(frame: Any) -> bool:
    """Whether it is a frame of a client. Written from docs/protocol.md, sections 1 to 4, and not from the code."""
    if not isinstance(frame, dict) or not set(frame) <= {"type", "id", "n", "payload"}:
        return False
    if "n" in frame and not (frame.get("type") in ("text", "file") and _is_integer(frame["n"], 1, 2**53 - 1)):
        return False
    if "id" in frame and not (
        isinstance(frame["id"], str) and _matches(r"[ -~\u00a0-\ud7ff\ue000-\ufffd]{1,64}", frame["id"])
    ):
        return False
    payload = frame.get("payload")
    rules: Any = _RULES.get(frame["type"]) if isinstance(frame.get("type"), str) else None
    if rules is None or not isinstance(payload, dict):
        return False
    required, optional = rules
    return (
        set(required) <= set(payload) <= set(required) | set(optional)
        and all((required | optional)[key](value) for key, value in payload.items())
    )  # fmt: skip


def _matches(regex: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(regex, value) is not None


def _is_string(value: Any, most: int = 64 * 1024, least: int = 0) -> bool:
    return isinstance(value, str) and least <= len(value) <= most


def _is_integer(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


_UUID_4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TO = {"to": lambda value: _matches("[0-9a-f]{64}|#[0-9a-f]{32}", value)}
_RULES: dict[str, Any] = {
    "auth": (
        {"token": _is_string},
        {
            "device": lambda value: _matches("[A-Za-z0-9._-]{1,64}", value),
            "origin": lambda value: _is_string(value, 255, least=1),
            "invite": lambda value: _is_string(value, 255),
            "cert": lambda value: _matches("[0-9a-f]{210}", value),
            "device_key": lambda value: _matches("[0-9a-f]{64}", value),
            "log_head": lambda value: _matches("[0-9a-f]{64}", value),
        },
    ),
    "verify": ({"attempt": _is_string}, {}),
    "text": (_TO | {"text": _is_string}, {}),
    "file": (
        _TO | {"url": lambda value: _matches(rf"/media/{_UUID_4}\.bin", value)},
        {
            "kind": lambda value: value in ("file", "image", "voice", "circle"),
            "name": lambda value: _is_string(value, 255),
            "mime": lambda value: _matches("[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}", value),
            "size": lambda value: _is_integer(value, 0, 2**53 - 1),
            "sha256": lambda value: _matches("[0-9a-f]{64}", value),
            "duration_ms": lambda value: _is_integer(value, 0, 24 * 60 * 60 * 1000),
            "width": lambda value: _is_integer(value, 1, 65_535),
            "height": lambda value: _is_integer(value, 1, 65_535),
            "waveform": lambda value: (
                isinstance(value, list) and len(value) == 64 and all(_is_integer(each, 0, 255) for each in value)
            ),
            "caption": lambda value: _is_string(value, 4096),
        },
    ),
}  # fmt: skip


_seed_messages = st.one_of([messages_of(cls) for cls in (Auth, Verify, Text, File)])


@given(mutated_frames(_seed_messages) | any_frame_text(_seed_messages))
def test_a_decoder_written_from_the_document_agrees(text: str) -> None:
    try:
        decode_client(text)
        accepted = True
    except InvalidMessage:
        accepted = False
    assert accepted == _is_message(_parsed(text))
