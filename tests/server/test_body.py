"""Streamed bodies: a sender is read only as fast as the handler takes what it sends."""

from typing import Any

import pytest
import trio
from hypercorn.typing import HTTPScope
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

from ironwire.server.http.body import StreamedBody, StreamedHTTPConnection

SCOPE: Any = {
    "type": "http",
    "asgi": {},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"transfer-encoding", b"chunked")],
    "client": None,
    "server": None,
    "extensions": {},
}
CHUNK = bytes(64 * 1024)


class EndlessSender:
    """A peer that sends chunks for ever; `sent` counts those that were taken from it."""

    def __init__(self) -> None:
        self.sent = 0
        self.received: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.sent += 1
        assert self.sent < 10_000, "nothing holds the sender back"
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def send(self, event: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.received.append(event)


def serve(app: QuartTrio, sender: EndlessSender, scope: HTTPScope = SCOPE) -> Any:
    app.asgi_http_class = StreamedHTTPConnection
    return app(scope, sender.receive, sender.send)  # type: ignore[arg-type]  # the tests speak plain dictionaries


async def test_a_handler_that_does_not_read_is_not_read_ahead_of() -> None:
    app = QuartTrio(__name__)
    sender = EndlessSender()
    may_go_on = trio.Event()
    taken: list[int] = []

    @app.post("/")
    async def slow() -> str:
        await may_go_on.wait()
        async for chunk in request.body:
            taken.append(len(chunk))
            if sum(taken) > 100 * len(CHUNK):
                break
        return "enough"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, app, sender)
        await wait_all_tasks_blocked()
        assert 0 < sender.sent < 32
        may_go_on.set()
    assert sum(taken) > 100 * len(CHUNK)
    assert max(taken) < 32 * len(CHUNK)
    assert sender.received[0]["status"] == 200


@pytest.mark.parametrize(
    ("sizes", "items"),
    [([70_000, 80_000, 3], [70_000, 80_000, 3]), ([1, 2, 3, 4], [10]), ([1, 70_000, 70_000], [140_001])],
)
async def test_large_chunks_are_handed_on_as_they_came_and_small_ones_together(
    sizes: list[int], items: list[int]
) -> None:
    body = StreamedBody()
    for size in sizes:
        await body.feed(bytes(size))
    body.end()
    assert [len(item) async for item in body] == items


async def test_a_response_that_overtakes_its_request_says_that_the_connection_ends() -> None:
    app = QuartTrio(__name__)
    sender = EndlessSender()

    @app.post("/")
    async def refuse() -> Response:
        return Response(b"no", 413)

    await serve(app, sender)
    assert (b"connection", b"close") in [(name.lower(), value) for name, value in sender.received[0]["headers"]]
    assert sender.received[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_what_comes_while_the_response_is_sent_is_thrown_away() -> None:
    app = QuartTrio(__name__)
    sender = EndlessSender()
    taken_after = 0

    async def slow_send(event: dict[str, Any]) -> None:
        nonlocal taken_after
        before = sender.sent
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        taken_after = sender.sent - before

    @app.post("/")
    async def refuse() -> Response:
        return Response(b"no", 413)

    app.asgi_http_class = StreamedHTTPConnection
    await app(SCOPE, sender.receive, slow_send)  # type: ignore[arg-type]  # plain dictionaries
    assert taken_after > 32


async def test_a_body_cannot_be_asked_for_whole() -> None:
    app = QuartTrio(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.post("/")
    async def greedy() -> bytes:
        return await request.get_data(as_text=False, cache=True, parse_form_data=False)

    with pytest.RaisesGroup(pytest.RaisesExc(TypeError, match="async for")):
        await serve(app, EndlessSender())


async def test_a_peer_that_leaves_cancels_the_handler() -> None:
    app = QuartTrio(__name__)
    app.asgi_http_class = StreamedHTTPConnection
    cancelled = trio.Event()

    @app.post("/")
    async def patient() -> str:
        try:
            await trio.Event().wait()
        except trio.Cancelled:
            cancelled.set()
            raise
        return ""

    async def leave() -> dict[str, Any]:
        await wait_all_tasks_blocked()
        return {"type": "http.disconnect"}

    await app(SCOPE, leave, EndlessSender().send)  # type: ignore[arg-type]  # plain dictionaries
    assert cancelled.is_set()
