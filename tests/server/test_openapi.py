"""docs/openapi.json and the application name the same routes, methods and errors. tests/system/test_openapi.py asks a
real server whether they also behave as the document says.
"""

import json
from pathlib import Path
from typing import Any, get_args

from jsonschema import Draft202012Validator

from ironwire.server.app import create_app
from ironwire.server.http.responses import SECURITY_HEADERS, HttpErrorCode
from ironwire.server.operator.config import Settings
from ironwire.store.memory.store import MemoryStore

DOCUMENT: dict[str, Any] = json.loads(
    Path(__file__).parents[2].joinpath("docs", "openapi.json").read_text(encoding="utf-8")
)
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


def test_the_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path), open_store=MemoryStore)
    served = {
        (rule.rule.replace("<path:name>", "{name}"), method)
        for rule in app.url_map.iter_rules()
        if not rule.websocket
        for method in rule.methods or ()
    }
    documented = {(path, method.upper()) for path, method, _ in OPERATIONS}
    assert documented <= served
    # Of each route that can be read, the headers alone can be asked for, and what else it takes.
    assert {(path, method) for path, method in served - documented if method not in ("HEAD", "OPTIONS")} == set()


def test_the_document_has_every_error() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Error"]["properties"]["error"]["enum"] == list(get_args(HttpErrorCode))


def test_every_response_carries_the_headers_that_all_carry() -> None:
    for path, method, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            assert response["headers"].keys() >= SECURITY_HEADERS.keys(), (path, method, status)


def test_the_schemas_are_valid() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_names_of_operations_are_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
