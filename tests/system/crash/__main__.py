"""`python -m tests.system.crash SECONDS`: histories until the time is over, and what happened in them."""

import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.system.crash.history import Tally, live_through, open_servers, random_points

KILLS = 25


async def main(seconds: float) -> None:
    tally = Tally()
    ends_at = time.monotonic() + seconds
    async with open_servers() as servers:
        while time.monotonic() < ends_at:
            with tempfile.TemporaryDirectory() as folder:
                await live_through(servers, Path(folder), random_points(KILLS), tally)
            print(f"{tally.histories} histories, {tally.kills.total()} kills", file=sys.stderr, flush=True)
    print(tally)
    print("nothing lost, nothing twice, nothing out of order, nothing back that was acknowledged")


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]))
