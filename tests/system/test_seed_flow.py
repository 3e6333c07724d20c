"""The seed protocol without any of our tools: openssl, any WebSocket client, every byte compared.

docs/protocol.md, section 2. Whatever a hostile client tries, the conversation of two others goes on.
"""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.server.raw_client import RawClient, upgrade_request
from tests.system.bystander import conversation
from tests.system.conftest import IRONWIRE_SERVE, Server, hypercorn_command, running_server

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

AUTH_SECONDS = 1.0
ANSWER_SECONDS = 5.0
URL = "/media/00000000-0000-4000-8000-000000000000.bin"


@pytest.fixture(
    scope="module",
    params=[hypercorn_command("ironwire.asgi:app"), IRONWIRE_SERVE],
    ids=["hypercorn", "ironwire serve"],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"IRONWIRE_LIMITS_AUTH_SECONDS": str(AUTH_SECONDS)}
    with running_server(request.param, tmp_path_factory.mktemp("server"), environment) as server:
        yield server


@frozen
class Identity:
    """A key that only openssl has read."""

    key: Path
    client_id: str

    async def sign(self, challenge: str) -> str:
        """Sign the bytes behind the challenge's hex digits."""
        text = self.key.with_suffix(".challenge")
        await trio.Path(text).write_bytes(bytes.fromhex(challenge))  # openssl signs no pipe: it wants the size first
        signature = await openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.key, "-in", text)
        return signature.hex()


async def openssl(*arguments: str | Path) -> bytes:
    """Return what the command prints."""
    with trio.fail_after(ANSWER_SECONDS):
        done = await trio.run_process(["openssl", *arguments], capture_stdout=True)
    assert isinstance(done.stdout, bytes)
    return done.stdout


async def new_identity(key: Path) -> Identity:
    await openssl("genpkey", "-algorithm", "Ed25519", "-out", key)
    public = await openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
    return Identity(key, public[-32:].hex())


@pytest.fixture
async def alice(tmp_path: Path) -> Identity:
    return await new_identity(tmp_path / "alice.pem")


@pytest.fixture
async def bob(tmp_path: Path) -> Identity:
    return await new_identity(tmp_path / "bob.pem")


@asynccontextmanager
async def undisturbed(server: Server) -> AsyncIterator[None]:
    """The conversation of two others goes on, before and after."""
    async with conversation(server.port) as others:
        await others.go_on()
        yield
        await others.go_on()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[WebSocketConnection]:
    async with await server.open_stream() as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "localhost", "/ws")
        nursery.cancel_scope.cancel()


async def heard(websocket: WebSocketConnection) -> str:
    """The next text frame, as it came."""
    with trio.fail_after(ANSWER_SECONDS):
        return str(await websocket.get_message())


async def challenged(websocket: WebSocketConnection, identity: Identity) -> str:
    """Say who it is that asks; return the challenge."""
    await websocket.send_message(f'{{"type":"auth","payload":{{"token":"{identity.client_id}"}}}}')
    answer = await heard(websocket)
    found = re.fullmatch(r'\{"type":"auth_challenge","challenge":"([0-9a-f]{64})"\}', answer)
    assert found, answer
    return found[1]


def verify(signature: str) -> str:
    return f'{{"type":"verify","payload":{{"attempt":"{signature}"}}}}'


async def authenticate(websocket: WebSocketConnection, identity: Identity) -> None:
    challenge = await challenged(websocket, identity)
    await websocket.send_message(verify(await identity.sign(challenge)))
    assert await heard(websocket) == '{"type":"auth_ok"}'


async def closing(websocket: WebSocketConnection) -> tuple[int, str]:
    """The close code and reason, which must be the next that comes."""
    with pytest.raises(ConnectionClosed) as closed:
        await heard(websocket)
    reason = closed.value.reason
    assert reason is not None, "the connection ended without a close frame"
    return reason.code, reason.reason or ""


async def test_the_flow_of_the_readme(server: Server, alice: Identity, bob: Identity) -> None:
    async with undisturbed(server), connected(server) as a, connected(server) as b:
        await authenticate(a, alice)
        await authenticate(b, bob)

        await a.send_message(f'{{"type":"text","payload":{{"to":"{bob.client_id}","text":"Hello..."}}}}')
        received = await heard(b)
        assert received == f'{{"type":"text","payload":{{"from":"{alice.client_id}","text":"Hello..."}}}}'

        await b.send_message(f'{{"type":"file","payload":{{"to":"{alice.client_id}","url":"{URL}"}}}}')
        assert await heard(a) == f'{{"type":"file","payload":{{"from":"{bob.client_id}","url":"{URL}"}}}}'


async def test_a_text_for_nobody(server: Server, alice: Identity, bob: Identity) -> None:
    async with undisturbed(server), connected(server) as a:
        await authenticate(a, alice)
        await a.send_message(f'{{"type":"text","payload":{{"to":"{bob.client_id}","text":"Hello"}}}}')
        expected = f'{{"type":"error","payload":{{"msg":"user_offline","user":"{bob.client_id}"}}}}'
        assert await heard(a) == expected


async def test_a_token_in_upper_case(server: Server, alice: Identity, bob: Identity) -> None:
    shouting = Identity(alice.key, alice.client_id.upper())
    async with undisturbed(server), connected(server) as a, connected(server) as b:
        await authenticate(a, shouting)
        await authenticate(b, bob)
        await b.send_message(f'{{"type":"text","payload":{{"to":"{alice.client_id}","text":"Hello"}}}}')
        assert await heard(a) == f'{{"type":"text","payload":{{"from":"{bob.client_id}","text":"Hello"}}}}'


async def test_out_of_turn(server: Server, alice: Identity) -> None:
    text = f'{{"type":"text","payload":{{"to":"{alice.client_id}","text":"Hello"}}}}'
    async with undisturbed(server), connected(server) as a:
        await a.send_message(text)
        assert await heard(a) == '{"type":"error","payload":{"msg":"auth_required"}}'
        challenge = await challenged(a, alice)
        await a.send_message(text)
        assert await heard(a) == '{"type":"error","payload":{"msg":"expected_verify"}}'
        await a.send_message(verify(await alice.sign(challenge)))
        assert await heard(a) == '{"type":"auth_ok"}'


# --- hostile clients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["", "00", "zz" * 32, "01" + "00" * 31, "00" * 32, "ff" * 32],
    ids=["empty", "short", "not hex", "small order", "zero", "not canonical"],
)
async def test_a_token_that_is_no_key(server: Server, token: str) -> None:
    async with undisturbed(server), connected(server) as mallory:
        await mallory.send_message(f'{{"type":"auth","payload":{{"token":"{token}"}}}}')
        assert await closing(mallory) == (1008, "Invalid public key")


async def test_a_signature_by_another_key(server: Server, alice: Identity, bob: Identity) -> None:
    async with undisturbed(server), connected(server) as mallory:
        challenge = await challenged(mallory, alice)
        await mallory.send_message(verify(await bob.sign(challenge)))
        assert await closing(mallory) == (1008, "Signature verification failed")


async def test_a_signature_over_something_else(server: Server, alice: Identity) -> None:
    async with undisturbed(server), connected(server) as mallory:
        await challenged(mallory, alice)
        await mallory.send_message(verify(await alice.sign("00" * 32)))
        assert await closing(mallory) == (1008, "Signature verification failed")


@pytest.mark.parametrize("attempt", ["", "ab" * 63, "ab" * 65, "zz" * 64], ids=["empty", "short", "long", "not hex"])
async def test_a_signature_that_is_none(server: Server, alice: Identity, attempt: str) -> None:
    async with undisturbed(server), connected(server) as mallory:
        await challenged(mallory, alice)
        await mallory.send_message(verify(attempt))
        assert await closing(mallory) == (1008, "Invalid signature length")


async def test_an_answer_overheard_and_used_again(server: Server, alice: Identity) -> None:
    async with undisturbed(server), connected(server) as a, connected(server) as mallory:
        challenge = await challenged(a, alice)
        overheard = verify(await alice.sign(challenge))
        await a.send_message(overheard)
        assert await heard(a) == '{"type":"auth_ok"}'
        assert await challenged(mallory, alice) != challenge
        await mallory.send_message(overheard)
        assert await closing(mallory) == (1008, "Signature verification failed")


async def test_silence(server: Server) -> None:
    async with undisturbed(server), connected(server) as mallory:
        assert await closing(mallory) == (1002, "Authentication timeout")


async def test_random_bytes_over_the_socket(server: Server) -> None:
    async with undisturbed(server), await server.open_stream() as stream:
        mallory = RawClient(stream)
        await mallory.upgrade()
        await mallory.send(b"\xff" + Random(1).randbytes(10_000))  # three reserved bits, to begin with
        with trio.fail_after(ANSWER_SECONDS):
            code, _ = await mallory.closing()
        assert code == 1002


@pytest.mark.parametrize("beginning", [b"", upgrade_request()], ids=["instead of a request", "behind the request"])
async def test_random_bytes_over_the_connection(server: Server, beginning: bytes) -> None:
    async with undisturbed(server), await server.open_stream() as stream:
        await stream.send_all(beginning + Random(2).randbytes(10_000))
        await stream.send_eof()
        with trio.fail_after(ANSWER_SECONDS):
            while await stream.receive_some():
                pass
