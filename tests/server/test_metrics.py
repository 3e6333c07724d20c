"""What is published of a server: every figure that a part has of itself, and nobody's name."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

import ironwire
from ironwire.counting import HELP, Distribution, Histogram, Statistics, Tallied, figure
from ironwire.server.http.monitoring import metrics_text
from tests.playbook import Stage, identity_of, open_stage
from tests.server.http_toy import parse_response

UNPUBLISHED = {
    "OutboxStatistics",  # of one session: there are too many of them
    "CommitterStatistics",  # a part of DeliveryStatistics
}


@attrs.frozen
class Seen:
    """A part's figures."""

    running: int = figure("Tasks that run now.")
    is_full: bool = figure("1 while nothing more fits.")
    accepted_total: Tallied = figure("Accepted envelopes.")
    waited_seconds: Distribution = figure("Time in the queue.")


def published(text: bytes) -> dict[str, str]:
    """What the text says, by name and labels."""
    return dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))


def test_a_field_is_a_metric_of_the_kind_that_its_value_has() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.5, 7.0):
        histogram.observe(seconds)
    tally = Tallied(("verb", "path"), {("text", "stored"): 7})
    text = metrics_text({"hub": lambda: Seen(2, True, tally, histogram.statistics())})
    assert published(text) == {
        "ironwire_hub_running": "2.0",
        "ironwire_hub_is_full": "1.0",
        'ironwire_hub_accepted_total{path="stored",verb="text"}': "7.0",
        'ironwire_hub_waited_seconds_bucket{le="0.1"}': "1.0",
        'ironwire_hub_waited_seconds_bucket{le="1.0"}': "2.0",
        'ironwire_hub_waited_seconds_bucket{le="+Inf"}': "3.0",
        "ironwire_hub_waited_seconds_count": "3.0",
        "ironwire_hub_waited_seconds_sum": "7.6",
    }
    lines = text.decode().splitlines()
    assert "# HELP ironwire_hub_running Tasks that run now." in lines
    assert "# HELP ironwire_hub_waited_seconds Time in the queue." in lines
    kinds = {"running": "gauge", "is_full": "gauge", "accepted_total": "counter", "waited_seconds": "histogram"}
    assert {line for line in lines if line.startswith("# TYPE")} == {
        f"# TYPE ironwire_hub_{name} {kind}" for name, kind in kinds.items()
    }


async def metrics_of(stage: Stage) -> bytes:
    response = parse_response(
        await stage.server.request(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    )
    assert response.status == 200
    return response.body


def statistics_classes() -> list[type[attrs.AttrsInstance]]:
    found: dict[str, type[attrs.AttrsInstance]] = {}
    for module in pkgutil.walk_packages(ironwire.__path__, "ironwire."):
        if module.name.startswith(("ironwire.delivery.", "ironwire.handlers.", "ironwire.server.", "ironwire.store.")):
            members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            found |= {name: cls for name, cls in members if name.endswith("Statistics") and attrs.has(cls)}
    return [cls for name, cls in found.items() if name not in UNPUBLISHED]


@pytest.mark.parametrize("cls", statistics_classes(), ids=lambda cls: cls.__name__)
def test_every_statistic_is_explained_by_a_sentence_of_its_own(cls: type[attrs.AttrsInstance]) -> None:
    explanations = [field.metadata.get(HELP, "") for field in attrs.fields(cls)]
    assert all(re.fullmatch(r"[A-Z0-9].*\w.*\.", text) and "\n" not in text for text in explanations), explanations
    assert len({*explanations}) == len(explanations)


async def test_every_figure_of_every_part_is_published(mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Statistics] = {}

    def spy(sources: Mapping[str, Statistics]) -> bytes:
        asked.update(sources)
        return metrics_text(sources)

    monkeypatch.setattr("ironwire.server.http.monitoring.metrics_text", spy)
    async with open_stage() as stage:
        text = (await metrics_of(stage)).decode()
        parts = {source: type(statistics()) for source, statistics in asked.items()}
    assert set(statistics_classes()) == set(parts.values())
    explained = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert explained == {
        f"ironwire_{source}_{field.name}": field.metadata[HELP]
        for source, cls in parts.items()
        for field in attrs.fields(cls)
    }


async def test_the_text_is_what_prometheus_reads_and_names_follow_its_rules(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        text = (await metrics_of(stage)).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 40
    for family in families:
        assert re.fullmatch(r"ironwire_[a-z_]+", family.name), family.name
        assert not family.name.endswith(("_ms", "_count", "_sum", "_bucket", "_mb"))


async def test_envelopes_are_counted_by_verb_and_by_what_became_of_them(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
            alice >> {"type":"text","payload":{"to":"$carol","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$carol"}}
            alice >> {"type":"nonsense"}
        """)
        await stage.next_text("alice")
        await stage.enter("dora", device="phone")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$dora","text":"Hello"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice >> {"type":"text","id":"1","payload":{"to":"$dora","text":"Hello"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000,"duplicate":true}}
            alice >> {"type":"text","id":"1","payload":{"to":"$dora","text":"Other"}}
            alice << {"type":"error","id":"1","payload":{"msg":"invalid","detail":"id was used for another message"}}
        """)
        text = await metrics_of(stage)
    figures = published(text)
    assert {name: float(figures[name]) for name in figures if figures[name] != "0.0" and "verb=" in name} == {
        'ironwire_delivery_accepted_total{path="relayed",verb="text"}': 1,
        'ironwire_delivery_accepted_total{path="stored",verb="text"}': 1,
        'ironwire_delivery_duplicates_total{verb="text"}': 1,
        'ironwire_delivery_undeliverable_total{verb="text"}': 1,
        'ironwire_delivery_refused_total{code="invalid",verb="text"}': 1,
    }
    assert figures["ironwire_sessions_invalid_total"] == "1.0"
    assert figures["ironwire_store_mailboxes"] == "1.0"
    assert figures["ironwire_store_waiting_envelopes"] == "1.0"
    assert figures['ironwire_delivery_settled_seconds_bucket{le="+Inf"}'] == "4.0"
    assert float(figures['ironwire_flusher_handed_over_seconds_bucket{le="+Inf"}']) > 0
    assert identity_of("alice").client_id not in text.decode(), "the metrics name nobody"


REFUSED = {
    '"verify","payload":{"attempt":"' + "00" * 64 + '"}': ("verify", "invalid"),
    '"device_remove","payload":{"device":"none"}': ("device_remove", "not_found"),
    '"history","payload":{"with":"$bob","limit":1}': ("history", "forbidden"),
    '"group_info","payload":{"group":"#' + "0" * 32 + '"}': ("group_info", "not_found"),
    '"group_leave","payload":{"group":"#' + "0" * 32 + '"}': ("group_leave", "not_found"),
    '"typing","payload":{"to":"#' + "0" * 32 + '","typing":true}': ("typing", "not_found"),
    '"block","payload":{"client":"$alice"}': ("block", "invalid"),
    '"call_end","payload":{"to":"$bob","reason":"hangup","call":"' + "0" * 32 + '"}': ("call_end", "not_found"),
    '"upload_token","payload":{"size":999999999}': ("upload_token", "too_large"),
}


async def test_requests_are_counted_by_verb_and_by_what_was_wrong_with_them(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        for request in (
            *REFUSED,
            '"devices"',
            '"groups"',
            '"blocks"',
            '"presence","id":"1","payload":{"status":"online"}',
        ):
            await stage.play(f'alice >> {{"type":{request}}}')
            await stage.next_text("alice")
        figures = published(await metrics_of(stage))
    refused = {name: float(value) for name, value in figures.items() if name.startswith("ironwire_requests_refused_")}
    assert refused == {
        f'ironwire_requests_refused_total{{code="{code}",verb="{verb}"}}': 1 for verb, code in REFUSED.values()
    }
    assert {float(figures[f'ironwire_requests_asked_total{{verb="{verb}"}}']) for verb in ("devices", "typing")} == {1}


async def test_sessions_are_counted_by_how_they_ended(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.actors["bob"].hang_up()
        await wait_all_tasks_blocked()
        await stage.server.guard.on_shutdown()
        await stage.play("alice << close 1012 retry_ms=5000")
        figures = published(await metrics_of(stage))
    assert figures['ironwire_sessions_ended_total{code="1012"}'] == "1.0"
    assert figures['ironwire_sessions_ended_total{code="none"}'] == "1.0"
    assert float(figures["ironwire_sessions_sent_total"]) >= 2


@pytest.mark.parametrize("name", ["cpu_seconds_total", "resident_bytes", "open_files"])
async def test_the_process_is_measured(mock_clock: MockClock, name: str) -> None:
    async with open_stage() as stage:
        assert float(published(await metrics_of(stage))[f"ironwire_process_{name}"]) > 0
