"""The seed protocol on `websockets` and uvloop: live relay, nothing else between the library and the wire."""

import json
import os
from contextlib import suppress

import uvloop
from nacl.signing import VerifyKey
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

sessions: dict[str, list[ServerConnection]] = {}


async def session(socket: ServerConnection) -> None:
    token: str = json.loads(await socket.recv())["payload"]["token"]
    challenge = os.urandom(32)
    await socket.send(json.dumps({"type": "auth_challenge", "challenge": challenge.hex()}))
    attempt = json.loads(await socket.recv())["payload"]["attempt"]
    VerifyKey(bytes.fromhex(token)).verify(challenge, bytes.fromhex(attempt))
    sessions.setdefault(token, []).append(socket)
    await socket.send('{"type":"auth_ok"}')
    try:
        with suppress(ConnectionClosed):
            async for text in socket:
                payload = json.loads(text)["payload"]
                delivery = json.dumps({"type": "text", "payload": {"from": token, "text": payload["text"]}})
                for recipient in sessions[payload["to"]]:
                    await recipient.send(delivery)
    finally:
        sessions[token].remove(socket)


async def main() -> None:
    async with serve(session, "127.0.0.1", int(os.environ["PORT"]), compression=None, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
