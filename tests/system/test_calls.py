"""A call between two real clients leaves nothing behind: not in the data folder, not in the server's log."""

from pathlib import Path
from signal import SIGTERM

import pytest
import trio

from ironwire.client import (
    Candidate,
    Client,
    Identity,
    Received,
    Refused,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedRinging,
    connect,
)
from ironwire.ids import DeviceId
from ironwire.wire.messages import ServerMessage
from tests.system.conftest import IRONWIRE_SERVE, running_server

SECONDS = 20.0
ALICE, BOB = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))
SECRET = "the-static-auth-secret"


async def heard(client: Client, kind: type[ServerMessage]) -> ServerMessage:
    async for event in client:
        if isinstance(event, Received) and isinstance(event.message, kind):
            return event.message
    raise AssertionError("a client's events end with an exception")


async def converse(server: str, folder: Path) -> list[bytes]:
    """Everything that a call may say; what of it must not be found anywhere."""
    async with (
        connect(server, ALICE, device=DeviceId("desk"), store=folder / "alice.db") as alice,
        connect(server, BOB, device=DeviceId("phone"), store=folder / "bob.db") as bob,
    ):
        (turn,) = (await alice.calls.ice_servers()).servers
        call = await alice.calls.offer(bob.client_id, "the-offer", "video")
        assert await heard(bob, RelayedOffer) == RelayedOffer(alice.client_id, call, "the-offer", "video")
        await bob.calls.ringing(alice.client_id, call)
        assert await heard(alice, RelayedRinging) == RelayedRinging(bob.client_id, call)
        await alice.calls.candidate(bob.client_id, call, Candidate("the-candidate"))
        assert await heard(bob, RelayedCandidate) == RelayedCandidate(alice.client_id, call, Candidate("the-candidate"))
        await bob.calls.answer(alice.client_id, call, "the-answer")
        assert await heard(alice, RelayedAnswer) == RelayedAnswer(bob.client_id, call, "the-answer")
        await alice.calls.end(bob.client_id, call)
        assert await heard(bob, RelayedEnd) == RelayedEnd(alice.client_id, call, "hangup")
        with pytest.raises(Refused, match="not_found"):
            await bob.calls.end(alice.client_id, call)
        said = ["the-offer", "the-candidate", "the-answer", call, turn.credential, SECRET]
        return [word.encode() for word in said if word]


def everything_in(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]


async def test_nothing_of_a_call_is_kept(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    variables = {
        "IRONWIRE_TURN_URLS": "turn:127.0.0.1:3478",
        "IRONWIRE_TURN_SECRET": SECRET,
        "IRONWIRE_LOG_LEVEL": "debug",
    }
    with running_server(IRONWIRE_SERVE, tmp_path / "server", variables) as server:
        with trio.fail_after(SECONDS):
            words = await converse(f"http://127.0.0.1:{server.port}", tmp_path)
        during = everything_in(tmp_path)
        server.signal(SIGTERM)
        assert server.wait() == 0
    assert len(words) == 6
    assert any(b"phone" in content for content in during), "the database was not looked at"
    assert [word for word in words for content in (*during, *everything_in(tmp_path)) if word in content] == []
