"""docs/between-devices.md: its examples are messages, and its table and numbers are those of the code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from ironwire.client.history import PART_BYTES
from ironwire.e2e.bodies import HISTORY_PARTS, Body
from ironwire.e2e.content import BODIES, decode_content
from ironwire.e2e.files import SEALED_CHUNK_BYTES, content_room
from ironwire.e2e.own_records import RECORDS_AT_ONCE
from ironwire.limits import BACKUP_BYTES, LINK_BYTES, LINK_SECONDS, Limits
from ironwire.wire.messages import wire_key

PAGE = (Path(__file__).parents[2] / "docs" / "between-devices.md").read_text(encoding="utf-8")


def examples() -> Iterator[str]:
    for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        rest = block
        while rest := rest.strip():
            _, end = json.JSONDecoder().raw_decode(rest)
            yield rest[:end]
            rest = rest[end:]


@pytest.mark.parametrize("text", [*examples()])
def test_an_example_is_a_message(text: str) -> None:
    assert decode_content(text.encode(), None).body.t in BODIES


def keys_of(cls: type[Body]) -> list[str]:
    fields = attrs.fields(cls)  # type: ignore[arg-type]  # records are attrs classes
    return [wire_key(field) + ("" if field.default is attrs.NOTHING else "?") for field in fields]


def test_the_table_has_every_kind_with_its_keys() -> None:
    _, *rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == [*BODIES]
    told = {name: re.findall(r"`([\w?]+)`", keys) for name, keys in rows}
    expected = {name: keys_of(cls) for name, cls in BODIES.items()}
    expected["call"] = ["call", "sdp", "candidate"]  # one of the two
    assert told == expected


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"byte {SEALED_CHUNK_BYTES:,} for each chunk before it" in PAGE
    assert f"30 MiB take content of {content_room(30 * 1024 * 1024):,} bytes" in PAGE
    assert f"at most {PART_BYTES // 1024**2} MiB, and there are at most {HISTORY_PARTS}" in PAGE
    assert f"in messages of at most {RECORDS_AT_ONCE}," in PAGE
    assert (LINK_BYTES, BACKUP_BYTES, LINK_SECONDS) == (8 * 1024, 1024 * 1024, 300)
    limits = Limits()
    protocol = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert f"write {limits.links_per_minute} times a minute and ask {limits.links_per_minute} times" in protocol
    assert f"{limits.links_at_a_time:,} answers wait at a time" in protocol
    assert f"store {limits.backups_per_hour} times an hour and fetch {limits.backups_per_hour} times" in protocol
