"""Commands that ask the server for one thing, and leave."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

from ironwire.cli.options import answer_deadline, open_identity
from ironwire.client import Client, ServerAddress, connect

T = TypeVar("T")


def ask(server: str, key: Path, question: Callable[[Client], Awaitable[T]]) -> T:
    """The answer to `question`, over a session of the identity in the file `key`.

    Raises:
        ClientError: there is none.
    """

    async def run() -> T:
        async with connect(address, identity) as client:
            with answer_deadline():
                return await question(client)

    address, identity = ServerAddress.parse(server), open_identity(key)
    return trio.run(run)
