"""A small application with the handlers that stock Hypercorn cannot survive: `tests.system.toy:app`.

`tests.system.guarded_toy:app` is the same one under the guard.
"""

import trio
from quart import request, websocket
from quart_trio import QuartTrio

app = QuartTrio("toy")


@app.get("/")
async def greeting() -> str:
    return "hello"


@app.post("/refuse")
async def refuse() -> tuple[str, int]:
    """Refuse a body without reading it."""
    return f"{request.content_length} bytes are too much", 413


@app.websocket("/ws")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())


@app.websocket("/brief")
async def brief() -> None:
    await websocket.accept()
    await websocket.close(1000)


@app.websocket("/talkative")
async def talkative() -> None:
    """Send for ever, as handlers do that trust the server to stop them."""
    try:
        while True:
            await websocket.send("tick")
    finally:
        with trio.CancelScope(shield=True):
            while True:
                await websocket.send("tock")
