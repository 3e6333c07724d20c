"""docs/security.md promises nothing without a test: each one that it names is there, and each claim names one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def names_in(path: Path) -> set[str]:
    """What can be run there: functions, and the test cases of state machines, which are assigned."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("named", NAMED)
def test_every_test_that_is_named_is_there(named: str) -> None:
    path, _, test = named.partition("::")
    assert (ROOT / path).exists()
    assert not test or test in names_in(ROOT / path)


def test_whatever_is_said_to_be_impossible_has_a_test() -> None:
    tables = re.findall(
        r"^\| (?:cannot \| kept by|\| where \| claim \| test) \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    claims = [row for table in tables for row in table.splitlines()]
    assert len(claims) > 60
    assert [claim for claim in claims if "`tests/" not in claim.rpartition(" | ")[2]] == []


def test_whatever_is_stored_about_people_is_in_the_table() -> None:
    schema = "\n".join(file.read_text() for file in (ROOT / "ironwire" / "store" / "schema").glob("*.sql"))
    recorded = PAGE.partition("## What is recorded about people")[2].partition("\n## ")[0]
    tables = set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE))
    assert {table for table in tables if f"`{table}`" not in recorded.partition("\n\n- ")[0]} == set()
