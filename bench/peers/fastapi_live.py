"""The seed protocol on FastAPI: live relay, and upload and download of files. `uvicorn bench.peers.fastapi_live:app`.

An upload promises what IronWire's does: it is complete, on the disk and under its name before anybody hears of it.
"""

import asyncio
import json
import os
import uuid
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from nacl.signing import VerifyKey

MEDIA = Path("media")
sessions: dict[str, list[WebSocket]] = {}


async def authenticate(socket: WebSocket) -> dict[str, str]:
    """The client's `token` and, if it has one, its `device`."""
    await socket.accept()
    claim: dict[str, str] = json.loads(await socket.receive_text())["payload"]
    challenge = os.urandom(32)
    await socket.send_text(json.dumps({"type": "auth_challenge", "challenge": challenge.hex()}))
    attempt = json.loads(await socket.receive_text())["payload"]["attempt"]
    VerifyKey(bytes.fromhex(claim["token"])).verify(challenge, bytes.fromhex(attempt))
    return claim


async def session(socket: WebSocket) -> None:
    token = (await authenticate(socket))["token"]
    sessions.setdefault(token, []).append(socket)
    await socket.send_text('{"type":"auth_ok"}')
    try:
        while True:
            payload = json.loads(await socket.receive_text())["payload"]
            delivery = json.dumps({"type": "text", "payload": {"from": token, "text": payload["text"]}})
            for recipient in sessions[payload["to"]]:
                await recipient.send_text(delivery)
    except WebSocketDisconnect:
        pass
    finally:
        sessions[token].remove(socket)


async def upload(request: Request) -> dict[str, str]:
    name = f"{uuid.uuid4()}.bin"
    partial = MEDIA / f"{name}.partial"
    with partial.open("wb") as file:
        async for chunk in request.stream():
            file.write(chunk)
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    partial.rename(MEDIA / name)
    return {"url": f"/media/{name}"}


async def media(name: str) -> FileResponse:
    return FileResponse(MEDIA / name)


MEDIA.mkdir()
app = FastAPI()
app.add_api_websocket_route("/ws", session)
app.add_api_route("/upload", upload, methods=["POST"])
app.add_api_route("/media/{name}", media)
