"""The benchmark itself works: a tiny load on a real server, and the report that is made of its figures."""

import shutil
from pathlib import Path

import pytest
from attrs import evolve

from bench import cache, clients, device, flows, mls, profile, report
from bench.contenders import ironwire
from bench.figures import Figure, medians
from bench.goals import judge
from bench.load import Lane, LoadFailed, drive
from bench.scale import QUICK

TINY = evolve(QUICK, pairs=2, windows=(1, 10), warm_seconds=0.1, seconds=0.2, group_leaves=(4,))

needs_cc = pytest.mark.skipif(
    shutil.which("cc") is None, reason="cc is not installed: the load generator is written in C"
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.system
@needs_cc
def test_texts_flow_and_are_counted() -> None:
    figures = [*flows.live(ironwire(), TINY), *flows.durable(ironwire(), TINY)]
    assert [(figure.measure, figure.case) for figure in figures] == [
        ("live", "w=1"),
        ("live", "w=10"),
        ("durable", "w=1"),
        ("durable", "w=10"),
    ]
    for figure in figures:
        assert figure.value > 0
        assert 0 < figure.details["p50_ms"] <= figure.details["p99_ms"]


@pytest.mark.system
@needs_cc
def test_a_load_whose_texts_do_not_arrive_fails() -> None:
    with ironwire().running() as server, flows.lanes(server, 2) as lanes:
        stray = [Lane(lanes[0].sender, "0" * 64, lanes[0].receivers)]
        with pytest.raises(LoadFailed, match="user_offline"):
            drive(server, stray, "live", window=1, warm_seconds=0, seconds=0.2)


@needs_cc
def test_the_load_generator_is_compiled_once() -> None:
    assert cache.load_generator() == cache.load_generator()
    assert [path.name for path in cache.cache_folder().glob("*.partial")] == []


def _figure(subject: str, value: float, case: str = "w=10", measure: str = "live") -> Figure:
    return Figure(measure, case, subject, value, {"p50_ms": 1.0, "p99_ms": 2.0, "server_us": 3.0})


def test_the_figure_of_several_rounds_is_the_median() -> None:
    assert medians([_figure("ws", 3), _figure("ws", 1), _figure("ws", 2), _figure("bun", 9)]) == [
        _figure("ws", 2),
        _figure("bun", 9),
    ]


def test_goals_are_judged_by_ratio_whichever_way_a_measure_counts() -> None:
    relay = [_figure("ironwire", 40_000), _figure("fastapi", 8_000), _figure("ws", 80_000)]
    memory = [
        _figure(name, value, "2,000 connections", "memory") for name, value in (("ironwire", 20), ("fastapi", 40))
    ]
    assert [(verdict.measured, verdict.is_met) for verdict in judge([*relay, *memory])] == [
        ("5.00x", True),
        ("0.50x", False),
        ("2.00x", True),
    ]


def test_a_budget_is_judged_by_its_own_unit() -> None:
    figures = [Figure("mls", "1,000 leaves", subject, 300, {}) for subject in ("join", "process a path")]
    assert [(verdict.measured, verdict.is_met) for verdict in judge(figures)] == [
        ("300.0 ms", True),
        ("300.0 ms", False),
    ]


def test_groups_of_mls_are_measured() -> None:
    figures = list(mls.groups(ironwire(), TINY))
    assert {figure.measure for figure in figures} == {"mls", "mls_bytes", "kept"}
    assert {figure.case for figure in figures} == {"4 leaves"}
    assert all(figure.value > 0 for figure in figures)


def test_clients_of_the_library_are_measured_encrypted_and_not() -> None:
    figures = list(clients.texts(ironwire(), evolve(TINY, client_pairs=((2, 2),), seconds=1)))
    assert [(figure.case, figure.subject) for figure in figures] == [
        ("2 pairs, w=2", "in the clear"),
        ("2 pairs, w=2", "encrypted"),
    ]
    assert all(figure.value > 0 and figure.details["p50_ms"] > 0 for figure in figures)


def test_the_store_of_a_device_is_measured_encrypted_and_not() -> None:
    figures = list(device.stores(ironwire(), TINY))
    assert {figure.subject for figure in figures} == {"encrypted", "not encrypted"}
    assert len({figure.case for figure in figures}) * 2 == len(figures)
    assert all(figure.value > 0 for figure in figures)


def test_a_partial_run_replaces_only_what_it_measured(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"Before\n\n{report.BEGIN}\nstale\n{report.END}\n\nAfter\n")
    report.save([_figure("ironwire", 50_000), _figure("ironwire", 7_000, measure="durable")], "first", tmp_path)
    report.save([_figure("ironwire", 60_000)], "second", tmp_path)
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("\n\nAfter\n")
    assert "stale" not in text
    assert "50,000" not in text
    assert "| w=10 | 60,000 |" in text
    assert "| w=10 | 7,000 |" in text
    assert "60,000" in (tmp_path / "performance.svg").read_text()


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (
            "run (trio/_core/_run.py:1);Session._handle (ironwire/server/session/session.py:2);_load (json.py:3)",
            "session",
        ),
        ("run (trio/_core/_run.py:1);get_events (trio/_core/_io_epoll.py:2)", "Trio: waiting, scheduling"),
        ("main (x.py:1);Writer.apply (ironwire/store/sqlite/writer.py:2)", "store: statements"),
        ("main (x.py:1)", "everything else"),
        ("Thread._bootstrap (threading.py:1);_work (trio/_core/_thread_cache.py:2)", None),
    ],
)
def test_a_sample_counts_for_the_innermost_stage(stack: str, stage: str | None) -> None:
    assert profile.stage_of(stack) == stage
