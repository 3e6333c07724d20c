"""docs/security.md promises nothing without a test, and says what is recorded about people to the last table.

That the tests it names are there is seen by tests/system/test_readme.py.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_whatever_is_said_to_be_impossible_has_a_test() -> None:
    tables = re.findall(
        r"^\| (?:cannot \| kept by|\| where \| claim \| test) \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    claims = [row for table in tables for row in table.splitlines()]
    assert len(claims) > 60
    assert [claim for claim in claims if "`tests/" not in claim.rpartition(" | ")[2]] == []


def test_whatever_is_stored_about_people_is_in_the_table() -> None:
    schema = "\n".join(file.read_text() for file in (ROOT / "ironwire" / "store" / "sqlite" / "schema").glob("*.sql"))
    recorded = PAGE.partition("## What is recorded about people")[2].partition("\n## ")[0]
    tables = set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE))
    assert len(tables) > 8
    assert {table for table in tables if f"`{table}`" not in recorded.partition("\n\n- ")[0]} == set()
