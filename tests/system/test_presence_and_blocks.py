"""What is kept and what is not, on a real disk: blocks outlive a crash, and nothing of presence and typing is there."""

import json
from pathlib import Path
from signal import SIGKILL
from typing import Any

import trio
from nacl.signing import SigningKey
from trio_websocket import WebSocketConnection

from tests.system.bystander import ANSWER_SECONDS, seed_session
from tests.system.conftest import IRONWIRE_SERVE, running_server

ALICE, BOB, CAROL, DAVE = (SigningKey(bytes([number]) * 32) for number in range(4))


def client_id(key: SigningKey) -> str:
    return key.verify_key.encode().hex()


def everything_in(folder: Path) -> bytes:
    """The database, its log, and what the server wrote to its own."""
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def ask(session: WebSocketConnection, verb: str, **payload: Any) -> dict[str, Any]:
    """Say it with an id; the answer, and what came before it is passed over."""
    with trio.fail_after(ANSWER_SECONDS):
        await session.send_message(json.dumps({"type": verb, "id": "1", "payload": payload}))
        while True:
            frame: dict[str, Any] = json.loads(await session.get_message())
            if frame.get("id") == "1":
                return frame


async def push(session: WebSocketConnection) -> dict[str, Any]:
    """The next frame."""
    with trio.fail_after(ANSWER_SECONDS):
        frame: dict[str, Any] = json.loads(await session.get_message())
        return frame


async def test_blocks_outlive_a_crash(tmp_path: Path) -> None:
    with running_server(IRONWIRE_SERVE, tmp_path) as server:
        async with seed_session(server.port, BOB) as (bob, _):
            for key in (ALICE, CAROL, DAVE):
                assert (await ask(bob, "block", client=client_id(key)))["type"] == "accepted"
            assert (await ask(bob, "unblock", client=client_id(DAVE)))["type"] == "accepted"
            server.signal_group(SIGKILL)
    with running_server(IRONWIRE_SERVE, tmp_path) as server:
        async with seed_session(server.port, ALICE) as (alice, _), seed_session(server.port, BOB) as (bob, bob_id):
            blocked = await ask(bob, "blocks")
            assert blocked["payload"]["clients"] == sorted(map(client_id, (ALICE, CAROL)))
            assert (await ask(alice, "text", to=bob_id, text="unwanted"))["type"] == "accepted"
            await ask(bob, "unblock", client=client_id(ALICE))
            assert (await ask(alice, "text", to=bob_id, text="welcome"))["type"] == "accepted"
            assert (await push(bob))["payload"]["text"] == "welcome"


async def test_what_is_ephemeral_never_reaches_the_disk(tmp_path: Path) -> None:
    """Carol is only watched, allowed and typed to, so her id must be nowhere; a block shows that it would be found."""
    with running_server(IRONWIRE_SERVE, tmp_path) as server:
        async with seed_session(server.port, ALICE) as (alice, _), seed_session(server.port, CAROL) as (carol, _):
            await ask(alice, "block", client=client_id(DAVE))
            for watched, watcher in ((alice, CAROL), (carol, ALICE)):
                await ask(watched, "presence_allow", clients=[client_id(watcher)])
            await ask(alice, "presence_watch", clients=[client_id(CAROL)])
            await ask(carol, "presence", status="busy")
            assert (await push(alice))["payload"]["status"] == "busy"
            await ask(alice, "presence", status="away")
            await ask(alice, "typing", to=client_id(CAROL), typing=True)
            assert (await push(carol))["type"] == "typing"
            server.signal_group(SIGKILL)
    on_disk = everything_in(tmp_path)
    assert client_id(DAVE).encode() in on_disk
    for word in (client_id(CAROL), "presence", "typing", "busy", "away"):
        assert word.encode() not in on_disk
