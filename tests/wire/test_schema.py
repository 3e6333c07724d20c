"""The published schemas say what the codec does: neither accepts a frame that the other refuses."""

import json
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from ironwire.errors import InvalidMessage
from ironwire.ids import BlobName, MessageId
from ironwire.wire import schema
from ironwire.wire.codec import decode_client, decode_server, encode
from ironwire.wire.messages import NUMBERED
from ironwire.wire.messages.fields import SAFE_INTEGER
from ironwire.wire.schema import Schema, schema_documents, write_documents
from tests.strategies import (
    any_frame_text,
    client_messages,
    message_ids,
    messages_of,
    mutated_frames,
    server_messages,
)

_FOLDER = Path(__file__).parents[2] / "docs" / "schema"


def _pattern(_: Any, regex: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`$` of ECMA-262 matches at the end alone; Python's also matches before a last line feed."""
    if isinstance(instance, str) and re.search(regex.removesuffix("$") + r"\Z", instance) is None:
        yield ValidationError("does not match")


_STRICT = extend(  # type: ignore[no-untyped-call]  # its stubs leave this one untyped
    Draft202012Validator,
    validators={"pattern": _pattern},
    # The difference that the documents name: to a schema 5.0 is an integer, to the protocol it is not.
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


def strict_validator(document: Schema) -> Draft202012Validator:
    """A validator that takes no value for another, as the decoders do."""
    validator: Draft202012Validator = _STRICT(document)
    return validator


_CLIENT = strict_validator(schema_documents()["client.json"])
_SERVER = strict_validator(schema_documents()["server.json"])


def _decodes(decode: Callable[[str], object], text: str) -> bool:
    try:
        decode(text)
    except InvalidMessage:  # and frames of verbs that are to be ignored: no schema can say those
        return False
    return True


def _conforms(validator: Draft202012Validator, text: str) -> bool:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return bool(validator.is_valid(frame))


def test_the_committed_schemas_are_current() -> None:
    committed = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in _FOLDER.glob("*.json")}
    assert committed == schema_documents(), "run: python -m ironwire.wire.schema docs/schema"


def test_the_module_writes_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["schema", str(tmp_path)])
    runpy.run_path(schema.__file__, run_name="__main__")
    for path in _FOLDER.glob("*.json"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", schema_documents())
def test_each_document_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema_documents()[name])


def test_write_documents_writes_every_document(tmp_path: Path) -> None:
    write_documents(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(schema_documents())


@given(client_messages(), st.none() | message_ids())
def test_every_client_message_conforms(message: Any, id_: MessageId | None) -> None:
    _CLIENT.validate(orjson.loads(encode(message, id_)))


@given(st.one_of([messages_of(cls) for cls in NUMBERED]), st.integers(1, SAFE_INTEGER))
def test_every_numbered_message_conforms(message: Any, n: int) -> None:
    _CLIENT.validate(orjson.loads(encode(message, n=n)))


@given(server_messages(), st.none() | message_ids())
def test_every_server_message_conforms(message: Any, id_: MessageId | None) -> None:
    _SERVER.validate(orjson.loads(encode(message, id_)))


@given(mutated_frames(client_messages()) | any_frame_text(client_messages()))
def test_schema_and_codec_agree_about_client_frames(text: str) -> None:
    assert _conforms(_CLIENT, text) == _decodes(decode_client, text)


@given(mutated_frames(server_messages()) | any_frame_text(server_messages()))
@example('{"type":"pong","seq":1}')
def test_schema_and_codec_agree_about_server_frames(text: str) -> None:
    assert _conforms(_SERVER, text) == _decodes(decode_server, text)


def test_the_named_difference_is_real() -> None:
    frame = '{"type":"accepted","payload":{"ts":5.0}}'
    assert Draft202012Validator(schema_documents()["server.json"]).is_valid(json.loads(frame))
    assert not _decodes(decode_server, frame)


@pytest.mark.parametrize("kind", [float, BlobName, dict[str, str], Annotated[int, "a bound"]])
def test_a_type_without_a_rule_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"no (schema|keywords) for"):
        schema._schema(kind, is_open=False)
