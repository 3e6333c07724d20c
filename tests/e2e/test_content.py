"""The inside of messages, docs/between-devices.md, section 10.2."""

import json
import runpy
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.e2e import schema
from ironwire.e2e.bodies import CallBody, LogBody, TextBody
from ironwire.e2e.content import BODIES, MOST_BYTES, Content, ContentHead, decode_content, encode_content
from ironwire.errors import InvalidContent, UpdateNeeded
from ironwire.ids import MessageId
from ironwire.wire.messages import wire_key
from tests.e2e.content_vectors import CALL
from tests.e2e.strategies import contents
from tests.e2e.vectors import recorded
from tests.strategies import json_values
from tests.wire.test_schema import strict_validator

_SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "e2e" / "content.json"
_VALIDATOR = strict_validator(schema.content_schema())
ONE = MessageId("1")


def known(cases: list[dict[str, Any]], *, refused: bool) -> list[Any]:
    return [pytest.param(case, id=case["json"][:70]) for case in cases if ("refused" in case) is refused]


@given(contents())
def test_a_message_comes_out_as_it_went_in(content: Content) -> None:
    encoded = encode_content(content)
    assert decode_content(encoded, content.id) == content
    assert decode_content(encoded, None) == content
    _VALIDATOR.validate(json.loads(encoded))


@given(contents(), st.dictionaries(st.text(), json_values(), max_size=3))
def test_keys_of_newer_clients_are_ignored(content: Content, more: dict[str, Any]) -> None:
    frame = json.loads(encode_content(content))
    known_keys = {wire_key(key) for key in (*attrs.fields(ContentHead), *attrs.fields(type(content.body)))} | {"v", "t"}
    more = {key: value for key, value in more.items() if key not in known_keys}
    assert decode_content(json.dumps(more | frame).encode(), content.id) == content


@pytest.mark.parametrize("case", known(recorded("content"), refused=False))
def test_known_messages_are_taken(case: dict[str, str]) -> None:
    content = decode_content(case["json"].encode(), MessageId(case["id"]))
    assert encode_content(content).decode() == case["json"]


@pytest.mark.parametrize("case", known(recorded("content"), refused=True))
def test_known_faults_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(InvalidContent) as caught:
        decode_content(case["json"].encode(), ONE)
    assert (type(caught.value) is UpdateNeeded) == (case["refused"] == "update")
    assert str(caught.value).isprintable()


def test_every_kind_has_a_known_answer() -> None:
    kinds = Counter(
        type(decode_content(case["json"].encode(), None).body) for case in recorded("content") if "refused" not in case
    )
    assert set(kinds) == set(BODIES.values())


def test_a_server_cannot_give_a_message_another_id() -> None:
    encoded = encode_content(Content(ONE, 5, TextBody("Hello")))
    with pytest.raises(InvalidContent, match="another id"):
        decode_content(encoded, MessageId("2"))


def test_nothing_inside_names_the_sender_or_hides_a_key_of_the_head() -> None:
    head = {wire_key(key) for key in attrs.fields(ContentHead)} | {"v", "t"}
    for cls in BODIES.values():
        keys = {wire_key(key) for key in attrs.fields(cls)}  # type: ignore[arg-type]  # records are attrs classes
        assert not keys & (head | {"from", "sender", "device"}), cls


def test_a_message_that_nobody_would_take_is_not_written() -> None:
    for body in (CallBody(CALL), LogBody()):
        with pytest.raises(InvalidContent):
            encode_content(Content(ONE, 5, body))


def test_a_message_that_is_too_long_is_not_read() -> None:
    with pytest.raises(InvalidContent, match="longer"):
        decode_content(b" " * (MOST_BYTES + 1), None)


@given(st.text() | json_values().map(json.dumps))
def test_any_text_is_a_message_or_refused(text: str) -> None:
    with suppress(InvalidContent):
        assert encode_content(decode_content(text.encode(errors="surrogatepass"), None))


@given(contents(), st.data())
def test_schema_and_decoder_agree_about_a_message_with_one_fault(content: Content, data: st.DataObject) -> None:
    frame = json.loads(encode_content(content))
    key = data.draw(st.sampled_from(sorted(frame)))
    if data.draw(st.booleans()):
        del frame[key]
    else:
        frame[key] = data.draw(json_values())
    text = json.dumps(frame)
    try:
        decode_content(text.encode(), None)
    except InvalidContent:
        is_taken = False
    else:
        is_taken = True
    try:
        parsed = json.loads(text)
        parsed_again = json.loads(json.dumps(parsed, ensure_ascii=False).encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which no schema can see
        return
    assert _VALIDATOR.is_valid(parsed_again) == is_taken


def test_the_committed_schema_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["schema", str(tmp_path)])
    runpy.run_path(schema.__file__, run_name="__main__")
    assert (tmp_path / "content.json").read_bytes() == _SCHEMA.read_bytes(), (
        "run: python -m ironwire.e2e.schema docs/schema/e2e"
    )
