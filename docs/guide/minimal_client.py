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
import threading
import uuid
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

DEVICE = "guide"
AGAIN = {"rate_limited", "mailbox_full", "internal"}  # errors after which the same frame is sent again (section 6)
PAUSE_SECONDS = 5.0  # where the server does not say how long
QUIET_SECONDS = 0.2  # nothing more comes: acknowledge what there is


def frame(verb: str, frame_id: str | None = None, **payload: object) -> str:
    named = {} if frame_id is None else {"id": frame_id}
    return json.dumps({"type": verb, **named, "payload": payload})


def origin_of(url: str) -> str:
    """Section 3.1: one form for each place, because it is signed."""
    parts = urlsplit(url)
    host = parts.hostname or ""  # in lower case already
    host = f"[{IPv6Address(host).compressed}]" if ":" in host else host
    scheme, usual = {"ws": ("http", 80), "wss": ("https", 443)}[parts.scheme]
    return f"{scheme}://{host}" if parts.port in (None, usual) else f"{scheme}://{host}:{parts.port}"


def is_final(code: int, is_in: bool) -> bool:
    """Section 6: close codes after which coming back does not help."""
    if code == 1002:  # before `auth_ok` it was only too slow
        return is_in
    return code in {1007, 1008} or (4400 <= code < 4500 and code != 4408)


def signed_text(origin: str, nonce: bytes, public_key: bytes) -> bytes:
    """Section 3: what is signed says where, for whom, and as which device."""
    parts = [origin.encode(), nonce + public_key, DEVICE.encode()]
    place, middle, device = (struct.pack(">H", len(part)) + part for part in parts)
    return b"ironwire-auth-v1\0" + place + middle[2:] + device


async def answer(socket: ClientConnection) -> dict[str, Any]:
    """What the server says next, on the way to `auth_ok`; a client that is refused with an error comes back later."""
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
    """What has to survive this program: what was said and is not accepted, and what came."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        unsent = "unsent (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, text TEXT)"
        came = "came (epoch INTEGER, seq INTEGER, sender TEXT, text TEXT)"
        for table in (unsent, came):
            self._file.execute(f"CREATE TABLE IF NOT EXISTS {table} STRICT")
        self.news = asyncio.Event()  # there is something to write

    def say(self, text: str) -> None:
        self._file.execute("INSERT INTO unsent (id, text) VALUES (?, ?)", (uuid.uuid4().hex, text))
        self.news.set()

    def unsent(self, after: int) -> list[tuple[int, str, str]]:
        return self._file.execute("SELECT * FROM unsent WHERE number > ? ORDER BY number", (after,)).fetchall()

    def settled(self, message_id: str) -> None:
        self._file.execute("DELETE FROM unsent WHERE id = ?", (message_id,))

    def drop_largest(self) -> None:
        largest = "SELECT id FROM unsent ORDER BY length(text) DESC LIMIT 1"
        self._file.execute(f"DELETE FROM unsent WHERE id = ({largest})")  # noqa: S608  # two constants

    def keep(self, epoch: int, seq: int, sender: str = "", text: str = "") -> bool:
        """Text and number in one transaction; False if it came before. In another epoch numbers start again."""
        known = "SELECT coalesce(max(seq), 0) FROM came WHERE epoch = ?"
        insert = f"INSERT INTO came SELECT ?, ?, ?, ? WHERE ? > ({known})"
        return self._file.execute(insert, (epoch, seq, sender, text, seq, epoch)).rowcount == 1


class Session:
    """One connection after `auth_ok`: `write` is one task, `listen` another."""

    def __init__(self, socket: ClientConnection, memory: Memory, welcome: dict[str, Any], peer: str) -> None:
        self._socket, self._memory, self._peer = socket, memory, peer
        self._limits, self._epoch = welcome["limits"], welcome["epoch"]
        self._wait_seconds: float | None = None  # the server holds this session (section 4)
        self._resumed = asyncio.Event()

    async def write(self) -> None:
        """Texts, in order, from one place. After a refusal: wait, say `resume`, and begin again with what is left."""
        written = 0
        while True:
            self._memory.news.clear()
            for number, message_id, text in self._memory.unsent(after=written):
                if self._wait_seconds is not None:
                    break
                said = frame("text", message_id, to=self._peer, text=text)
                if len(said) > self._limits["frame_bytes"]:  # json.dumps writes ASCII: characters are bytes
                    self._memory.settled(message_id)
                    print("error: too long", flush=True)
                    continue
                await self._socket.send(said)
                written = number
            if self._wait_seconds is None:
                await self._memory.news.wait()
            else:
                await asyncio.sleep(self._wait_seconds)
                await self._socket.send(frame("resume", "resume"))
                await self._resumed.wait()  # then everything before it has its answer
                self._resumed.clear()
                self._wait_seconds, written = None, 0

    async def listen(self) -> None:
        """Acknowledge when half of the window is used up, or nothing more comes."""
        upto = count = size = 0
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS if count else None):
                    text = await self._socket.recv(decode=False)
            except TimeoutError:
                text = None
            if text is not None and (number := self._take(json.loads(text))):
                upto, count, size = number, count + 1, size + len(text)
            is_half = count * 2 >= self._limits["window_envelopes"] or size * 2 >= self._limits["window_bytes"]
            if count and (text is None or is_half):
                await self._socket.send(frame("ack", upto=upto))
                count = size = 0

    def _take(self, got: dict[str, Any]) -> int:
        """Do what one frame asks for; the number that is to be acknowledged, or 0."""
        verb, payload = got["type"], got.get("payload", {})
        if verb == "accepted" and got["id"] == "resume":
            self._resumed.set()
        elif verb == "error" and payload["msg"] in AGAIN:  # the copy stays
            if self._wait_seconds is None:
                self._wait_seconds = payload.get("retry_after_ms", PAUSE_SECONDS * 1000) / 1000
                self._memory.news.set()
        elif verb == "accepted" or (verb == "error" and "id" in got):
            self._memory.settled(got["id"])
        if verb == "error" and not payload.get("held"):
            print("error:", payload["msg"], payload.get("detail", ""), flush=True)
        if verb == "gap":
            if self._memory.keep(self._epoch, payload["to"]):
                print(f"{payload['to'] - payload['from'] + 1} messages are lost: {payload['reason']}", flush=True)
            return int(payload["to"])
        if verb == "text" and self._memory.keep(self._epoch, got["seq"], payload["from"], payload["text"]):
            print(f"{payload['from'][:8]}: {payload['text']}", flush=True)
        return int(got.get("seq", 0))


async def main(url: str, key: SigningKey, memory: Memory, peer: str) -> None:
    loop = asyncio.get_running_loop()

    def read_lines() -> None:
        for line in sys.stdin:  # on the disk first: the connection may not be there
            loop.call_soon_threadsafe(memory.say, line.rstrip("\n"))

    threading.Thread(target=read_lines, daemon=True).start()  # no task: it would wait for a line before it ends
    attempt = 0
    while True:
        attempt += 1
        pause_seconds, is_in = min(30.0, 0.5 * 2**attempt), False
        try:
            async with connect(url, compression=None) as socket:
                welcome = await authenticate(socket, key, origin_of(url))
                print(f"connected as {welcome['client']}", flush=True)
                attempt, pause_seconds, is_in = 0, 0.5, True
                session = Session(socket, memory, welcome, peer)
                writing = asyncio.create_task(session.write())
                try:
                    await session.listen()
                finally:
                    writing.cancel()
                    with suppress(asyncio.CancelledError, ConnectionClosed):
                        await writing
        except ConnectionClosed as closed:
            code, reason = (1006, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
            if is_final(code, is_in):
                sys.exit(f"the server said: {code} {reason}")
            if code == 1009:
                memory.drop_largest()
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
