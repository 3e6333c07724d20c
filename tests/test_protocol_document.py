"""docs/protocol.md is the law: its example frames are frames, and its tables are those of the code."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from attrs import fields
from jsonschema import Draft202012Validator

from ironwire.client.connection.closing import reaction_to
from ironwire.close_codes import CLIENT_FAULTS, SENDABLE, CloseCode
from ironwire.crypto.padding import padded_size
from ironwire.errors import InvalidMessage
from ironwire.limits import Limits
from ironwire.mls.public import inspect_commit
from ironwire.server.session.admission import announced
from ironwire.wire.base64url import from_base64url
from ironwire.wire.codec import decode_client, decode_server, encode
from ironwire.wire.messages import CLIENT_MESSAGES, SERVER_MESSAGES, AuthOk, ServerLimits
from ironwire.wire.messages.fields import ERROR_RULES, ErrorCode, ErrorRule
from ironwire.wire.schema import schema_documents
from tests.vectors.example import example

DOCUMENT = Path(__file__).parents[1].joinpath("docs", "protocol.md").read_text(encoding="utf-8")
PACKAGE = Path(__file__).parents[1] / "ironwire"
ALICE = "a1" * 32

FILLED = [
    (r"<(?:client id|alice|bob|carol|64 hex[^>]*)>", ALICE),
    (r"<128 hex[^>]*>", "e5" * 64),
    ("<certificate>", "01" * 105),
    ("<entry>", "01" * 115),
    ("<mls>", "AAEA"),
    (r"/media/<uuid>", "/media/123e4567-e89b-42d3-a456-426614174000"),
    (r'"<code>"', '"invalid"'),
    (r'"user":"…"', f'"user":"{ALICE}"'),
    (r", …\]", "]"),
    (r'"id":"?…"?', '"id":"1"'),
    (r":[…abn](?=[,}])", ":1"),
]
"""What stands for a value in the document, and a value."""

_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_START = re.compile(r'^(?:(->|<-) )?(?=\{"type":\s?"[a-z])', re.MULTILINE)
_INLINE = re.compile(r'`(\{"type":"[^`]*)`')


def examples() -> Iterator[tuple[str, str]]:
    """Which way each example goes, as far as it is said, and its JSON."""
    for block in _BLOCK.findall(DOCUMENT):
        filled = _filled(block)
        for start in _START.finditer(filled):
            _, end = json.JSONDecoder().raw_decode(filled, start.end())
            yield start[1] or "", filled[start.end() : end]
    for inline in _INLINE.findall(DOCUMENT):
        yield "", _filled(inline)


def _filled(text: str) -> str:
    for pattern, value in FILLED:
        text = re.sub(pattern, value, text)
    return text


EXAMPLES = [*examples()]


def test_the_examples_were_found() -> None:
    verbs = {json.loads(text)["type"] for _, text in EXAMPLES}
    assert verbs >= {
        "auth",
        "auth_challenge",
        "auth_ok",
        "text",
        "error",
        "resume",
        "history",
        "gap",
        "ack",
        "ping",
        "pong",
    }
    assert len(EXAMPLES) >= 30


@pytest.mark.parametrize(("way", "text"), EXAMPLES, ids=[text[:60] for _, text in EXAMPLES])
def test_an_example_is_a_frame(way: str, text: str) -> None:
    schemas = schema_documents()
    taken = []
    for direction, decode, name in (("->", decode_client, "client.json"), ("<-", decode_server, "server.json")):
        try:
            decode(text)
        except InvalidMessage:
            continue
        Draft202012Validator(schemas[name]).validate(json.loads(text))
        taken.append(direction)
    assert way in taken if way else taken


def test_every_verb_is_in_the_document() -> None:
    verbs = {kind.verb for kind in CLIENT_MESSAGES} | {kind.verb for kind in SERVER_MESSAGES}
    assert (
        verbs - {*re.findall(r"`(\w+)(?: \{.*?\})?`", DOCUMENT), *re.findall(r'"type":\s?"(\w+)"', DOCUMENT)} == set()
    )


def test_the_example_of_auth_ok_is_what_the_server_says_by_default() -> None:
    (example,) = (text for _, text in EXAMPLES if '"auth_ok"' in text and "limits" in text)
    welcome = decode_server(example).message
    assert isinstance(welcome, AuthOk)
    assert welcome.limits == announced(Limits())
    assert json.loads(encode(welcome)) == json.loads(example), "and every key of it is known"


def test_the_limits_are_explained() -> None:
    rows = table("key of `limits`")
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row[0])] == [
        field.name for field in fields(ServerLimits)
    ]


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first column has this name."""
    (body,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in body.splitlines()]


def test_the_table_of_errors_is_the_codes() -> None:
    documented: dict[str, Any] = {}
    for code, when, again, same_id, keeps in table("code"):
        assert when
        documented[code.strip("`")] = ErrorRule(again, same_id == "yes", keeps == "yes")  # type: ignore[arg-type]  # compared
    assert documented == ERROR_RULES
    assert [*documented] == [*get_args(ErrorCode)]


def test_the_table_of_close_codes_is_the_codes_and_what_the_client_library_does() -> None:
    explained: dict[int, str] = {}
    reactions: dict[int, str] = {}
    for close, meaning, reaction in table("close"):
        word = re.split(r"[ ,;]", reaction)[0]
        if close == "1002 before `auth_ok`":
            assert word == reaction_to(1002, is_authenticated=False)
        elif close.startswith("4400-4499"):
            assert word == "stop"
            assert (CLIENT_FAULTS.start, CLIENT_FAULTS.stop) == (4400, 4500)
        elif close.startswith("any other"):
            assert {word} == {reaction_to(code, is_authenticated=True) for code in (1005, 1006, 1014, 3000, 4500, 4999)}
        else:
            explained[int(close)] = meaning
            reactions[int(close)] = word
    sent = [code for code in CloseCode if code in SENDABLE]
    assert explained == {code: code.explanation for code in sent}
    assert reactions == {code: reaction_to(code, is_authenticated=True) for code in sent}
    assert {reaction_to(code, is_authenticated=True) for code in CLIENT_FAULTS if code not in [*CloseCode]} == {"stop"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_close_code_is_called_by_its_name(path: Path) -> None:
    """1000 is a code, and how many milliseconds a second has."""
    numbers = {*CloseCode} - {CloseCode.NORMAL}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int]
    bare = [(node.lineno, node.value) for node in constants if node.value in numbers]
    assert bare == [] or path.name == "close_codes.py"


def test_the_worked_example_is_what_the_code_does() -> None:
    """Section 10.8, line by line."""
    block = DOCUMENT.partition("### 10.8 ")[2].partition("```text\n")[2].partition("```")[0]
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in block.splitlines())
    assert shown == example()
    commit, message = from_base64url(shown["commit"]), from_base64url(shown["message"])
    assert commit.index(shown["declaration"].encode()) == 52
    assert inspect_commit(commit).has_path is False
    assert shown["plaintext"].encode() not in message
    assert padded_size(len(shown["plaintext"])) == 256
