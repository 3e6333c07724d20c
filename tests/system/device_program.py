"""A program that uses a device, to be killed: `python -m tests.system.device_program read|write SERVER KEY STORE ...`.

write ... PEER FIRST COUNT    sends the numbers from FIRST on, and prints each before it sends it
read ...                      prints every text before it asks for the next
"""

import os
import sys
from pathlib import Path

import trio

from ironwire.client import Backoff, Client, DeliveredText, Received, connect, load_identity
from ironwire.ids import DeviceId, parse_client_id


async def main(*arguments: str) -> None:
    what, server, key, store, *rest = arguments
    device = DeviceId(what)
    identity = load_identity(Path(key))
    async with connect(server, identity, device=device, store=Path(store), backoff=Backoff(0.05, 0.1)) as client:
        await (write(client, *rest) if what == "write" else read(client))


async def write(client: Client, peer: str, first: str, count: str) -> None:
    to = parse_client_id(peer)
    async with trio.open_nursery() as nursery:
        for number in range(int(first), int(first) + int(count)):
            say(number)
            nursery.start_soon(client.send_text, to, str(number))
            await trio.sleep(0.001)


async def read(client: Client) -> None:
    say("ready")
    async for event in client:
        if isinstance(event, Received) and isinstance(event.message, DeliveredText):
            say(event.message.text)


def say(word: object) -> None:
    # In one write: `print` may be killed before the end of its line.
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
