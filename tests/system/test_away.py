"""Thousands of encrypted messages for a device that was away, through cuts and commits, with a server and files as they
are. Ten thousand of them: `python -m bench --only away`.
"""

from pathlib import Path

import trio

from bench.away import play
from bench.clients import Place
from tests.system.conftest import IRONWIRE_SERVE, running_server

MESSAGES = 2_000
SECONDS = 100
"""Many times what a quiet machine needs."""


async def test_thousands_of_messages_to_a_device_that_was_away(tmp_path: Path) -> None:
    with running_server(IRONWIRE_SERVE, tmp_path) as server, trio.fail_after(SECONDS):
        played = await play(Place.at(server.port, tmp_path), MESSAGES)
    assert played.lines == [str(number) for number in range(MESSAGES)]
