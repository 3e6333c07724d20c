"""A whole client of IronWire in one file: it talks to one person and loses nothing.

    python minimal_client.py ws://localhost:8080/ws KEY_FILE CLIENT_ID

Lines from standard input are sent; what comes is printed as `<sender>: <text>`. It needs `websockets` and `pynacl`.
What it leaves out is said in the guide; what it does is all that the protocol demands of a client with a device.
"""

import asyncio
import json
import random
import sqlite3
import struct
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

DEVICE = "guide"
STOP = {1002, 1007, 1008, 1009, 4400, 4403, 4409}  # close codes after which coming back does not help


def frame(verb: str, frame_id: str | None = None, **payload: object) -> str:
    named = {} if frame_id is None else {"id": frame_id}
    return json.dumps({"type": verb, **named, "payload": payload})


def signed_text(origin: str, nonce: bytes, public_key: bytes) -> bytes:
    """Section 3 of the protocol: what is signed says where, for whom, and as which device."""
    place, device = origin.encode(), DEVICE.encode()
    return b"".join(
        [
            b"ironwire-auth-v1\0",
            struct.pack(">H", len(place)) + place,
            nonce,
            public_key,
            struct.pack(">H", len(device)) + device,
        ]
    )


async def answer(socket: ClientConnection) -> dict[str, Any]:
    """What the server says next, on the way to `auth_ok`; whoever is refused with an error comes back later."""
    got: dict[str, Any] = json.loads(await socket.recv())
    if got["type"] == "error":
        raise ConnectionRefusedError(got["payload"]["msg"])
    return got


async def authenticate(socket: ClientConnection, key: SigningKey, origin: str) -> dict[str, Any]:
    public_key = bytes(key.verify_key)
    await socket.send(frame("auth", token=public_key.hex(), device=DEVICE, origin=origin))
    nonce = bytes.fromhex((await answer(socket))["challenge"])
    signature = key.sign(signed_text(origin, nonce, public_key)).signature
    await socket.send(frame("verify", attempt=signature.hex()))
    welcome: dict[str, Any] = (await answer(socket))["payload"]
    return welcome


class Memory:
    """What has to survive this program: what was said and not accepted, and how far the mailbox has been read."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("CREATE TABLE IF NOT EXISTS unsent (id TEXT PRIMARY KEY, text TEXT) STRICT")
        self._file.execute("CREATE TABLE IF NOT EXISTS place (epoch INTEGER, seq INTEGER) STRICT")

    def say(self, text: str) -> str:
        message_id = uuid.uuid4().hex
        self._file.execute("INSERT INTO unsent VALUES (?, ?)", (message_id, text))
        return message_id

    def unsent(self) -> list[tuple[str, str]]:
        return self._file.execute("SELECT id, text FROM unsent ORDER BY rowid").fetchall()

    def settled(self, message_id: str) -> None:
        self._file.execute("DELETE FROM unsent WHERE id = ?", (message_id,))

    def begin(self, epoch: int) -> None:
        """Another epoch is another mailbox: its numbers start again."""
        known = self._file.execute("SELECT epoch FROM place").fetchone()
        if known != (epoch,):
            self._file.execute("DELETE FROM place")
            self._file.execute("INSERT INTO place VALUES (?, 0)", (epoch,))

    def is_new(self, seq: int) -> bool:
        """Note that the mailbox was read up to `seq`; False if it had been before."""
        return self._file.execute("UPDATE place SET seq = ? WHERE seq < ?", (seq, seq)).rowcount == 1


async def listen(socket: ClientConnection, memory: Memory) -> None:
    async for text in socket:
        got = json.loads(text)
        verb, payload = got["type"], got.get("payload", {})
        if verb == "error" and payload["msg"] == "rate_limited":
            await asyncio.sleep(payload["retry_after_ms"] / 1000)
            return  # to come back: what was not accepted is said again
        if verb == "accepted" or (verb == "error" and "id" in got):
            memory.settled(got["id"])
        if verb == "error":
            print("error:", payload["msg"], payload.get("detail", ""), flush=True)
        elif verb == "gap":
            print(f"{payload['to'] - payload['from'] + 1} messages have expired", flush=True)
            await socket.send(frame("ack", upto=payload["to"]))
        elif "seq" in got:
            if memory.is_new(got["seq"]) and verb == "text":
                print(f"{payload['from'][:8]}: {payload['text']}", flush=True)
            await socket.send(frame("ack", upto=got["seq"]))


async def main(url: str, key: SigningKey, memory: Memory, peer: str) -> None:
    origin = url.replace("ws", "http", 1).removesuffix("/ws")
    live: list[ClientConnection] = []

    async def read_lines() -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            message_id = memory.say(line.rstrip("\n"))  # on the disk first: the connection may not be there
            for socket in live:
                with suppress(ConnectionClosed):  # it is said again after coming back
                    await socket.send(frame("text", message_id, to=peer, text=line.rstrip("\n")))

    lines = asyncio.create_task(read_lines())
    attempt = 0
    while True:
        attempt += 1
        pause_seconds = min(30.0, 0.5 * 2**attempt)
        try:
            async with connect(url, compression=None) as socket:
                welcome = await authenticate(socket, key, origin)
                memory.begin(welcome["epoch"])
                print(f"connected as {welcome['client']}", flush=True)
                attempt, pause_seconds = 0, 0.5
                for message_id, text in memory.unsent():
                    await socket.send(frame("text", message_id, to=peer, text=text))
                live.append(socket)
                try:
                    await listen(socket, memory)
                finally:
                    live.remove(socket)
        except ConnectionClosed as closed:
            code, reason = (1006, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
            if code in STOP:
                lines.cancel()
                sys.exit(f"the server said: {code} {reason}")
            if code == 1012 and reason.startswith("retry_ms="):
                pause_seconds = int(reason.removeprefix("retry_ms=")) / 1000
            if code == 1013:
                pause_seconds = 60.0
        except (OSError, InvalidHandshake):
            pass  # nobody is there, or a proxy that says so
        await asyncio.sleep(random.uniform(0, pause_seconds))  # noqa: S311  # full jitter: chance, not secrecy


def load_key(path: Path) -> SigningKey:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(bytes(SigningKey.generate()))
    return SigningKey(path.read_bytes())


if __name__ == "__main__":
    _, server, file, friend = sys.argv
    asyncio.run(main(server, load_key(Path(file)), Memory(Path(file).with_suffix(".db")), friend))
