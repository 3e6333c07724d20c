"""The dashboard in deploy/ asks for metrics that there are, of the kind that its functions need."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from trio.testing import MockClock

from tests.playbook import open_stage
from tests.server.http_toy import parse_response

DASHBOARD = json.loads((Path(__file__).parents[1] / "deploy/grafana.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUESTIONS = ("Is it up?", "How many are here?", "how long does it take?", "Who is refused?", "Is the disk filling?")

_METRIC = re.compile(r"\bironwire_[a-z_]+")
_OF_COUNTERS = re.compile(r"\b(?:rate|increase)\((ironwire_[a-z_]+)")
_POSITION = {
    "type": "object",
    "required": ["h", "w", "x", "y"],
    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 1000},
}
_TARGET = {
    "type": "object",
    "required": ["refId", "datasource", "expr"],
    "properties": {
        "expr": {"type": "string", "minLength": 1},
        "datasource": {"const": DASHBOARD["panels"][1]["datasource"]},
    },
}
_PANEL = {
    "type": "object",
    "required": ["id", "type", "title", "gridPos"],
    "properties": {
        "type": {"enum": ["row", "stat", "timeseries"]},
        "title": {"type": "string", "minLength": 1},
        "description": {"type": "string", "minLength": 1},
        "gridPos": _POSITION,
        "targets": {"type": "array", "minItems": 1, "items": _TARGET},
    },
    "if": {"properties": {"type": {"not": {"const": "row"}}}},
    "then": {"required": ["description", "targets", "fieldConfig", "options", "datasource"]},
}
_SCHEMA = {
    "type": "object",
    "required": ["title", "uid", "schemaVersion", "panels", "templating", "time"],
    "properties": {"panels": {"type": "array", "items": _PANEL}, "schemaVersion": {"type": "integer", "minimum": 36}},
}
"""What Grafana reads of a dashboard; it publishes no schema of its own JSON model that it keeps to."""


def test_the_file_is_a_dashboard() -> None:
    jsonschema.validate(DASHBOARD, _SCHEMA)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"source", "instance"}


def test_no_panel_covers_another_or_leaves_the_grid() -> None:
    cells = [{(x, y) for x, y in _cells(panel["gridPos"])} for panel in DASHBOARD["panels"]]
    assert [pair for pair in combinations(range(len(cells)), 2) if cells[pair[0]] & cells[pair[1]]] == []
    assert max(x for each in cells for x, _ in each) < 24


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_questions_of_an_operator_are_asked(question: str) -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert any(question in row for row in rows)


async def test_every_metric_that_is_asked_for_is_there(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        text = parse_response(await stage.server.request(request)).body.decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for name in [name for name, kind in kinds.items() if kind == "histogram"]:
        kinds |= {f"{name}_bucket": "counter"}
    for panel in PANELS:
        for target in panel["targets"]:
            assert set(_METRIC.findall(target["expr"])) <= set(kinds), panel["title"]
            assert {kinds[name] for name in _OF_COUNTERS.findall(target["expr"])} <= {"counter"}, panel["title"]
            assert target["expr"].count("(") == target["expr"].count(")")


def _cells(position: dict[str, int]) -> list[tuple[int, int]]:
    x, y, width, height = (position[name] for name in ("x", "y", "w", "h"))
    return [(column, line) for column in range(x, x + width) for line in range(y, y + height)]
