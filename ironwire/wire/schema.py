"""JSON Schema (2020-12) of every message, made from the annotations that `codec.py` enforces: `docs/schema/`.

Frames of a client are closed: the server refuses unknown keys. Frames of the server are open: a client ignores unknown
keys, and frames without `seq` whose `type` it does not know.

For authors of clients in other languages. A schema cannot express two rules of docs/protocol.md, section 1: an integer
is written without a fraction (`5`, not `5.0`), and of two equal keys the last one counts.

`python -m ironwire.wire.schema docs/schema` writes the files; a test fails while they are out of date.
"""

import inspect
import json
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from ironwire import ids
from ironwire.wire.messages import CLIENT_MESSAGES, DELIVERIES, NUMBERED, SERVER_MESSAGES, AuthChallenge, wire_key
from ironwire.wire.messages.fields import SAFE_INTEGER, Between, Chars, Items, Pattern

Schema = dict[str, Any]


def schema_documents() -> dict[str, Schema]:
    """One schema for each direction, by the name of its file."""
    return {
        "client.json": _document("A frame from a client to the server", CLIENT_MESSAGES, is_open=False),
        "server.json": _document("A frame from the server to a client", SERVER_MESSAGES, is_open=True),
    }


def write_documents(folder: Path) -> None:
    for name, document in schema_documents().items():
        (folder / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _document(title: str, classes: tuple[type[Any], ...], *, is_open: bool) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "oneOf": [_ref(cls.verb) for cls in classes],
        "$defs": {cls.verb: _frame(cls, is_open=is_open) for cls in classes} | IDENTIFIER_SCHEMAS,
    }


def _frame(cls: type[Any], *, is_open: bool) -> Schema:
    head: Schema = {"type": {"const": cls.verb}, "id": _ref("message_id")}
    counted = {"type": "integer", "minimum": 1, "maximum": SAFE_INTEGER}
    if cls in DELIVERIES:
        head["seq"] = counted
    elif is_open:
        head["seq"] = False  # a number belongs to deliveries alone: the one key that is not ignored elsewhere
    if cls in NUMBERED:
        head["n"] = counted
    payload = object_schema(cls, is_open=is_open)
    if cls is AuthChallenge:
        properties, required = head | payload["properties"], ["type", *payload["required"]]
    else:
        properties, required = head | {"payload": payload}, ["type", "payload"] if payload["required"] else ["type"]
    return {"description": inspect.getdoc(cls)} | _keys(properties, required, is_open=is_open)


def object_schema(cls: type[Any], *, is_open: bool) -> Schema:
    """The schema of a class in the annotations of `messages/`; identifiers are references to `IDENTIFIER_SCHEMAS`."""
    fields = attrs.fields(cls)
    required = [wire_key(field) for field in fields if field.default is attrs.NOTHING]
    properties = {wire_key(field): _schema(field.type, is_open=is_open) for field in fields}
    return _keys(properties, required, is_open=is_open)


def _keys(properties: Schema, required: list[str], *, is_open: bool) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": is_open}


def _schema(kind: Any, *, is_open: bool) -> Schema:
    """The schema of a field's type; a type without a rule here is a mistake in `messages/`."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if attrs.has(kind):
        return object_schema(kind, is_open=is_open)
    origin: Any = get_origin(kind)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is list:
        return {"type": "array", "items": _schema(*get_args(kind), is_open=is_open)}
    if origin is Annotated:
        base, *constraints = get_args(kind)
        schema = _schema(base, is_open=is_open)
        for constraint in constraints:
            schema = schema | _keywords(constraint)
        return schema
    if origin in (Union, UnionType) and type(None) in get_args(kind):
        present = tuple(each for each in get_args(kind) if each is not type(None))
        return _schema(Union[present], is_open=is_open)  # noqa: UP007  # `|` cannot join a computed tuple
    raise TypeError(f"no schema for the type {kind!r}")


def _keywords(constraint: Any) -> Schema:
    match constraint:
        case Between(least, most):
            return {"minimum": least, "maximum": most}
        case Chars(least, most):
            return {"minLength": least, "maxLength": most}
        case Items(least, most):
            return {"minItems": least, "maxItems": most}
        case Pattern(regex=regex, description=description):
            return _pattern(regex, description)
        case _:
            raise TypeError(f"no keywords for the constraint {constraint!r}")


def _pattern(regex: str, description: str) -> Schema:
    return {"pattern": f"^{regex}$", "description": description}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": -SAFE_INTEGER, "maximum": SAFE_INTEGER},
    ids.ClientId: _ref("client_id"),
    ids.DeviceId: _ref("device_id"),
    ids.GroupId: _ref("group_id"),
    ids.CallId: _ref("call_id"),
    ids.MessageId: _ref("message_id"),
    ids.Address: _ref("address"),
    ids.ConversationId: _ref("conversation_id"),
}

IDENTIFIER_SCHEMAS: dict[str, Schema] = {
    "client_id": {"type": "string"} | _pattern(ids.CLIENT_ID.pattern, "64 lowercase hex digits"),
    "device_id": {"type": "string"} | _pattern(ids.DEVICE_ID.pattern, "1 to 64 characters of A-Z a-z 0-9 . _ -"),
    "group_id": {"type": "string"} | _pattern(ids.GROUP_ID.pattern, "# and 32 lowercase hex digits"),
    "call_id": {"type": "string"} | _pattern(ids.CALL_ID.pattern, "32 lowercase hex digits"),
    "message_id": {"type": "string"} | _pattern(ids.MESSAGE_ID.pattern, "1 to 64 characters from U+0020 to U+007E"),
    "conversation_id": {"type": "string"}
    | _pattern(ids.CONVERSATION_ID.pattern, "@ or #, and 32 lowercase hex digits"),
    "address": {"oneOf": [_ref("client_id"), _ref("group_id")]},
}


if __name__ == "__main__":
    write_documents(Path(sys.argv[1]))
