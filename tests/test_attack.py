"""The attack suite itself: it sees harm where there is some, and its attacks arrive. What they do: `nox -s attack`."""

import json
import signal
import time
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from attack import lab, report
from attack.catalogue import ATTACKS
from attack.lab import helper, interval
from attack.verdict import Latency, Memory, Result, decided, is_calm, p99, result_from
from tests.system.conftest import hypercorn_command, running_server

CALM = Latency(calm_ms=3, attacked_ms=9, after_ms=3, floor_ms=2)
WITHSTOOD = Result(
    attack="texts",
    seconds=3,
    tries=1_000,
    outcomes={"rate_limited": 900, "close 1013": 1},
    live=CALM,
    durable=CALM,
    memory=Memory(peak_kib=100_000, connections=10, mailboxes=1, stalled=0),
)


# --- the verdict -----------------------------------------------------------------------------------------------------


def test_a_bystander_may_wait_five_times_as_long_and_no_longer() -> None:
    assert list(WITHSTOOD.broken()) == []
    assert list(evolve(WITHSTOOD, live=evolve(CALM, attacked_ms=15)).broken()) == []
    assert list(evolve(WITHSTOOD, durable=evolve(CALM, attacked_ms=15.3)).broken()) == [
        "durable texts: p99 was 15.3 ms, 5.1 times 3.0 ms; 5 times are allowed"
    ]


def test_what_is_below_the_noise_counts_as_noise() -> None:
    assert evolve(CALM, calm_ms=0.1).ratio() == 4.5


def test_of_three_runs_the_middle_one_counts_unless_one_broke_more_than_a_time_limit() -> None:
    quick, slow, slowest = (evolve(WITHSTOOD, durable=evolve(CALM, attacked_ms=ms)) for ms in (9, 16, 30))
    assert decided([slowest, quick, slow]) == slow
    assert decided([slow, quick, WITHSTOOD]) == WITHSTOOD
    breached = evolve(quick, faults=["breach: a file"])
    assert decided([slowest, breached, slow]) == breached


def test_calm_is_what_has_no_long_waits() -> None:
    assert is_calm([2.0] * 100, [8.0] * 100)
    assert not is_calm([2.0] * 100, [8.0] * 98 + [100.0] * 2), "the disk stood still"
    assert not is_calm([9.0] * 100, [8.0] * 100)
    assert not is_calm([], [])


def test_memory_is_allowed_for_what_is_there_to_be_remembered() -> None:
    allowed_kib = WITHSTOOD.memory.allowed_kib()
    assert list(evolve(WITHSTOOD, memory=evolve(WITHSTOOD.memory, peak_kib=allowed_kib)).broken()) == []
    (broken,) = evolve(WITHSTOOD, memory=evolve(WITHSTOOD.memory, peak_kib=allowed_kib + 1024)).broken()
    assert broken.startswith("memory: ")
    for more in ({"connections": 11}, {"mailboxes": 2}, {"stalled": 1}):
        assert evolve(WITHSTOOD.memory, **more).allowed_kib() > allowed_kib


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1))
def test_one_in_a_hundred_is_above_the_p99_at_the_most(times_ms: list[float]) -> None:
    assert sum(each > p99(times_ms) for each in times_ms) <= len(times_ms) / 100
    assert p99(times_ms) in times_ms


def test_texts_that_never_come_are_no_good_sign() -> None:
    assert p99([]) == float("inf")


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_result_survives_the_file() -> None:
    faults = evolve(WITHSTOOD, faults=["one"])
    assert result_from(json.loads(json.dumps(faults.to_json()))) == faults


def test_a_run_of_some_attacks_replaces_only_those(tmp_path: Path) -> None:
    page = tmp_path / "audit.md"
    page.write_text(f"Before\n\n{report.BEGIN}\nstale\n{report.END}\n\nAfter\n")
    report.save([WITHSTOOD, evolve(WITHSTOOD, attack="pings", tries=77)], "first", tmp_path)
    report.save([evolve(WITHSTOOD, faults=["the server's process ended"])], "second", tmp_path)
    text = page.read_text()
    assert text.startswith("Before\n")
    assert text.endswith("\n\nAfter\n")
    assert "stale" not in text
    assert "1 of 2 attacks were withstood" in text
    assert "the server's process ended" in text
    assert "77 pings" in text


def test_every_attack_says_what_it_is_for() -> None:
    for attack in ATTACKS.values():
        assert attack.gain, attack.name
        assert attack.place, attack.name
        assert attack.counted, attack.name


# --- real processes --------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_bystanders_notice_a_server_that_stands_still(tmp_path: Path) -> None:
    with (
        running_server(hypercorn_command("ironwire.asgi:app"), tmp_path) as server,
        helper("attack.bystanders", str(server.port)) as bystanders,
    ):
        interval(bystanders, 0.3)
        server.signal_group(signal.SIGSTOP)
        time.sleep(0.3)
        server.signal_group(signal.SIGCONT)
        harmed = interval(bystanders, 0.2)
        assert max(harmed.live_ms) >= 250
        assert max(harmed.durable_ms) >= 250
        assert harmed.lost_connections == 0
        server.signal_group(signal.SIGKILL)
        assert interval(bystanders, 0.5).lost_connections > 0


@pytest.mark.system
def test_an_attack_arrives_and_breaks_nothing() -> None:
    result = lab.run("kill packets", seconds=2, calm_seconds=0.3)
    assert result.tries > 0
    assert result.outcomes
    assert list(result.faults) == []
