"""The same seed gives the same run, to the last turn of the event loop: so a failure can be repeated."""

import os
import subprocess
import sys

import pytest

from tests.simulation.stores import KINDS, Kind
from tests.simulation.trace import digest_of, trace_of

SEED = 20
PRINT_DIGEST = "from tests.simulation.trace import *; print(digest_of(trace_of({seed}, {kind!r})))"


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_repeated_by_its_seed_and_by_no_other(kind: Kind) -> None:
    first, again = trace_of(SEED, kind), trace_of(SEED, kind)
    differences = [(one, other) for one, other in zip(first, again, strict=False) if one != other]
    assert differences[:1] == []
    assert len(first) == len(again)
    assert first != trace_of(SEED + 1, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_busy_enough_to_mean_something(kind: Kind) -> None:
    trace = trace_of(SEED, kind)
    for what in ('"accepted"', '"caught_up"', '"user_offline"', "ping", "4409", '"seq"'):
        assert any(what in line for line in trace), what


@pytest.mark.system
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_with_other_hashes_gives_the_same_run(kind: Kind) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IRONWIRE_")}
    result = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST.format(seed=SEED, kind=kind)],
        env=environment | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == digest_of(trace_of(SEED, kind))
