"""A real server is flooded in every way that is counted, and two people go on talking.

The floods come through a proxy that the server trusts, which is this test: so each has an address of its own.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from tests.playbook import auth_frame, identity_of
from tests.server.raw_client import RawClient, upgrade_request
from tests.system.bystander import Conversation, conversation
from tests.system.conftest import Server, StartServer
from tests.wire.frame_builder import text

SECONDS = 4.0
MOST_WAIT_SECONDS = 1.0
HOLDER, GUESSER, UPLOADER = (b"X-Forwarded-For: 192.0.2.%d" % number for number in (66, 67, 68))
SETTINGS = {
    "IRONWIRE_LIMITS_UNAUTHENTICATED_PER_ADDRESS": "20",
    "IRONWIRE_LIMITS_CONNECTIONS_PER_MINUTE": "1000",
    "IRONWIRE_LIMITS_ATTEMPTS_PER_MINUTE": "5",
    "IRONWIRE_LIMITS_UPLOADS_PER_MINUTE": "5",
    "IRONWIRE_LIMITS_MESSAGES_PER_SECOND": "200",
    "IRONWIRE_LIMITS_MESSAGES_AT_ONCE": "200",
}


async def test_floods_disturb_nobody_else(start_server: StartServer) -> None:
    server = start_server("ironwire.asgi:app", SETTINGS)
    seen: Counter[str] = Counter()
    waits: list[float] = []
    with trio.fail_after(40):
        async with conversation(server.port) as bystanders:
            with trio.move_on_after(SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(go_on_and_on, bystanders, waits)
                    for attack in (hold_sockets, try_keys, upload, talk):
                        for _ in range(4):
                            nursery.start_soon(again_and_again, partial(attack, server, seen))
    assert max(waits) < MOST_WAIT_SECONDS
    assert len(waits) > 10
    assert seen["socket 429"] > 0, "sockets"
    assert seen["rate_limited"] > 0, "attempts to authenticate"
    assert seen["429"] > 0, "uploads"
    assert seen["1013"] > 0, "whoever went on"
    assert 5 <= seen["uploaded"] <= 5 + SECONDS
    assert seen["challenged"] <= 5 + SECONDS


async def go_on_and_on(bystanders: Conversation, waits: list[float]) -> None:
    while True:
        began = trio.current_time()
        await bystanders.go_on()
        waits.append(trio.current_time() - began)
        await trio.sleep(0.02)


async def again_and_again(attack: Callable[[], Awaitable[None]]) -> None:
    """Whatever the server does about it, an attack goes on."""
    while True:
        try:
            await attack()
        except (OSError, EOFError, ConnectionRefusedError, trio.BrokenResourceError):
            await trio.sleep(0.01)


async def hold_sockets(server: Server, seen: Counter[str]) -> None:
    """Open sockets that say nothing, as many as there may be."""
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(_hold_socket, server, seen)


async def _hold_socket(server: Server, seen: Counter[str]) -> None:
    async with await server.open_stream() as stream:
        await stream.send_all(upgrade_request("/ws", HOLDER))
        answer = bytes(await stream.receive_some())
        seen[f"socket {answer[9:12].decode()}"] += 1
        await trio.sleep(0.5)


async def try_keys(server: Server, seen: Counter[str]) -> None:
    """Authenticate with signatures that are made up, as often as it goes."""
    client = RawClient(await server.open_stream())
    async with client.stream:
        await client.upgrade("/ws", GUESSER)
        for _ in range(3):
            await client.send(auth_frame("mallory"))
            answer = json.loads(await client.message())
            if answer["type"] == "auth_challenge":
                seen["challenged"] += 1
                await client.send(text(json.dumps({"type": "verify", "payload": {"attempt": "00" * 64}})))
                await client.closing()
                return
            seen[answer["payload"]["msg"]] += 1
        seen[str((await client.closing())[0])] += 1


async def upload(server: Server, seen: Counter[str]) -> None:
    async with await server.open_stream() as stream:
        head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\n" + UPLOADER + b"\r\nContent-Length: 1000\r\n\r\n"
        await stream.send_all(head + bytes(1000))
        status = bytes(await stream.receive_some())[9:12].decode()
        seen["uploaded" if status == "200" else status] += 1


async def talk(server: Server, seen: Counter[str]) -> None:
    """As a client, say more than one may, and do not stop."""
    name = f"talker {trio.current_time()}"
    client = RawClient(await server.open_stream())
    async with client.stream:
        await client.upgrade("/ws")
        await client.send(auth_frame(name))
        nonce = bytes.fromhex(json.loads(await client.message())["challenge"])
        attempt = identity_of(name).sign(nonce).hex()
        await client.send(text(json.dumps({"type": "verify", "payload": {"attempt": attempt}})))
        await client.message()
        flood = text('{"type":"devices"}') * 100
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_for_ever, client, flood)
            seen[str((await client.closing())[0])] += 1
            nursery.cancel_scope.cancel()


async def _send_for_ever(client: RawClient, flood: bytes) -> None:
    try:
        while True:
            await client.send(flood)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the server had enough
