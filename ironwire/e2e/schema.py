"""JSON Schema (2020-12) of the inside of messages, for authors of clients: docs/schema/e2e/content.json.

A client ignores keys that it does not know, and shows "update needed" for a `t` that it does not know.
`python -m ironwire.e2e.schema docs/schema/e2e` writes the file; a test fails while it is out of date.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from ironwire.e2e.bodies import Body, CallBody, LogBody
from ironwire.e2e.content import BODIES, VERSION, ContentHead
from ironwire.wire.schema import IDENTIFIER_SCHEMAS, Schema, object_schema


def content_schema() -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The inside of an encrypted message",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in BODIES],
        "$defs": {kind: _message(cls) for kind, cls in BODIES.items()} | IDENTIFIER_SCHEMAS,
    }


def _message(cls: type[Body]) -> Schema:
    head, body = object_schema(ContentHead, is_open=True), object_schema(cls, is_open=True)
    fixed: dict[str, Any] = {"v": {"const": VERSION}, "t": {"const": cls.t}}
    required = ["v", "t", *head["required"], *body["required"]]
    schema = {
        "description": inspect.getdoc(cls),
        "type": "object",
        "properties": fixed | head["properties"] | body["properties"],
        "required": [*required, "logs"] if cls is LogBody else required,
    }
    return schema | {"oneOf": [{"required": ["sdp"]}, {"required": ["candidate"]}]} if cls is CallBody else schema


if __name__ == "__main__":
    text = json.dumps(content_schema(), indent=2, ensure_ascii=False) + "\n"
    Path(sys.argv[1]).joinpath("content.json").write_text(text, encoding="utf-8")
