"""Durable relay on FastAPI and SQLite: `accepted` is said after the commit, and an id that comes again is not stored
again. `COMMIT=each` commits every text by itself; `COMMIT=group` commits what arrived while the last commit ran.

An ack deletes; it rides with the next commit, because losing one only means that a device gets something twice.
"""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.peers.fastapi_live import authenticate

IS_GROUPED = os.environ["COMMIT"] == "group"
GROUP = 1_000

database = sqlite3.connect("durable.db", isolation_level=None, check_same_thread=False)
database.executescript("""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE message (sender TEXT, id TEXT, ts INTEGER, PRIMARY KEY (sender, id)) WITHOUT ROWID;
    CREATE TABLE mailbox (recipient TEXT, seq INTEGER, body TEXT, PRIMARY KEY (recipient, seq)) WITHOUT ROWID;
""")
sessions: dict[str, WebSocket] = {}
tails: dict[str, int] = {}
Text = tuple[WebSocket, str, str, str, str]
waiting: list[Text | tuple[str, int]] = []
arrival = asyncio.Event()


def store(item: Text | tuple[str, int]) -> int:
    """Bring a text or an ack into the open transaction, and return the text's place in the mailbox (0: it has none)."""
    if len(item) == 2:
        database.execute("DELETE FROM mailbox WHERE recipient = ? AND seq <= ?", item)
        return 0
    _, sender, recipient, message_id, body = item
    row = (sender, message_id, time.time_ns() // 1_000_000)
    if not database.execute("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", row).rowcount:
        return 0
    tails[recipient] = seq = tails.get(recipient, 0) + 1
    database.execute("INSERT INTO mailbox VALUES (?, ?, ?)", (recipient, seq, body))
    return seq


async def tell(item: Text, seq: int) -> None:
    socket, sender, recipient, message_id, body = item
    await socket.send_text(json.dumps({"type": "accepted", "id": message_id}))
    device = sessions.get(recipient)
    if seq and device is not None:
        payload = {"from": sender, "text": body}
        await device.send_text(json.dumps({"type": "text", "seq": seq, "id": message_id, "payload": payload}))


async def commit_groups() -> None:
    while True:
        await arrival.wait()
        group = waiting[:GROUP]
        del waiting[:GROUP]
        if not waiting:
            arrival.clear()
        database.execute("BEGIN")
        entries = [store(item) for item in group]
        await asyncio.to_thread(database.commit)
        for item, seq in zip(group, entries, strict=True):
            if len(item) == 5:
                await tell(item, seq)


async def take(item: Text | tuple[str, int]) -> None:
    if IS_GROUPED:
        waiting.append(item)
        arrival.set()
        return
    if not database.in_transaction:
        database.execute("BEGIN")
    seq = store(item)
    if len(item) == 5:
        database.commit()
        await tell(item, seq)


async def session(socket: WebSocket) -> None:
    claim = await authenticate(socket)
    token = claim["token"]
    sessions[token] = socket
    await socket.send_text('{"type":"auth_ok"}')
    if "device" in claim:
        await socket.send_text('{"type":"caught_up"}')
    try:
        while True:
            frame: dict[str, Any] = json.loads(await socket.receive_text())
            payload = frame["payload"]
            if frame["type"] == "ack":
                await take((token, payload["upto"]))
            else:
                await take((socket, token, payload["to"], frame["id"], payload["text"]))
    except WebSocketDisconnect:
        pass


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    committer = asyncio.create_task(commit_groups())
    yield
    committer.cancel()


app = FastAPI(lifespan=lifespan)
app.add_api_websocket_route("/ws", session)
