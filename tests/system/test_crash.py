"""`kill -9` of the real server under load, in short: every named point, and a few times at random.

The long form is `nox -s crash -- SECONDS`; docs/reports/durability.md holds its last result.
"""

from pathlib import Path

import pytest

from tests.system.crash.device import Violation
from tests.system.crash.history import ANY_TIME, Tally, live_through, open_servers
from tests.system.crash.server import POINTS


async def test_no_promise_is_broken_wherever_the_server_dies(tmp_path: Path) -> None:
    tally = Tally()
    points = [*POINTS, ANY_TIME, ANY_TIME, ANY_TIME]
    async with open_servers() as servers:
        await live_through(servers, tmp_path, points, tally)
    assert set(tally.kills) == set(points), "a point was not reached"
    assert tally.counters.accepted > 100
    assert tally.counters.redelivered > 0
    assert tally.counters.answered > 10


async def test_a_commit_that_does_not_last_is_found_out(tmp_path: Path) -> None:
    """The same without the log of what was committed last, as after a power failure on a disk that lies."""
    async with open_servers() as servers:
        with pytest.raises(Violation):
            await live_through(servers, tmp_path, [ANY_TIME] * 10, Tally(), fault="loses its log")


async def test_an_answered_ack_that_does_not_last_is_found_out(tmp_path: Path) -> None:
    async with open_servers() as servers:
        with pytest.raises(Violation, match="came again after its ack was answered"):
            await live_through(servers, tmp_path, [ANY_TIME] * 10, Tally(), fault="forgets acks")
