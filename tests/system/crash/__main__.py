"""`python -m tests.system.crash SECONDS`: histories until the time is over, in the clear and encrypted by turns, and
what happened in them.
"""

import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.system.crash import encrypted
from tests.system.crash.history import Tally, live_through, open_servers, random_points

KILLS = 25
ENCRYPTED_KILLS = 10


async def main(seconds: float) -> None:
    tally = Tally()
    ends_at = time.monotonic() + seconds
    async with open_servers() as servers:
        while time.monotonic() < ends_at:
            with tempfile.TemporaryDirectory() as folder:
                await live_through(servers, Path(folder), random_points(KILLS), tally)
            with tempfile.TemporaryDirectory() as folder:
                points = encrypted.random_points(ENCRYPTED_KILLS)
                await encrypted.live_through_encrypted(servers, Path(folder), points, tally)
            lived = f"{tally.histories} and {tally.encrypted.histories} histories"
            killed = f"{tally.kills.total()} servers and {tally.encrypted.device_kills} devices"
            print(f"{lived}, {killed} killed", file=sys.stderr, flush=True)
    print(tally)
    print("nothing lost, nothing twice, nothing out of order, nothing back that was acknowledged, nothing unreadable")


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]))
