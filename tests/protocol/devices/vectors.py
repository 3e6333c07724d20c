"""The cases of tests/vectors/devices.json, as parameters of tests."""

import json
from typing import Any

import pytest

from ironwire.crypto.signing import PublicKey, parse_public_key
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import SignedEntry, open_entry
from tests.vectors.devices import FILE

Case = dict[str, Any]

VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


def cases(section: str) -> list[Any]:
    """Those of a section, under their names if they have some."""
    found = VECTORS[section]
    return [pytest.param(case, id=case.get("name", str(number))) for number, case in enumerate(found)]


def opened(client: PublicKey, pair: dict[str, str]) -> SignedEntry:
    return open_entry(client, bytes.fromhex(pair["entry"]), bytes.fromhex(pair["sig"]))


def entries_in(case: Case, key: str) -> tuple[PublicKey, list[SignedEntry]]:
    client = parse_public_key(case["client"])
    return client, [opened(client, pair) for pair in case[key]]


def known_in(case: Case) -> DeviceLog:
    client, entries = entries_in(case, "known")
    return DeviceLog(client).append(*entries)
