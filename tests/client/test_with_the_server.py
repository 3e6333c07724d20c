"""Client and server of this project, in one process: what one says, the other hears."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from ironwire.client import (
    AuthenticationRefused,
    Backoff,
    Client,
    Connected,
    DeliveredFile,
    DeliveredText,
    Identity,
    Received,
    Refused,
    RelayedAnswer,
    RelayedEnd,
    RelayedOffer,
    RelayedResumed,
    RelayedUpdate,
    ServerAddress,
    TransferFailed,
    connect,
    download,
    upload,
)
from ironwire.ids import DeviceId
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.wire.messages import ServerMessage
from tests.server.in_process import InProcessServer, serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32)


class Dialler:
    """Reaches the server in this process, whatever the address."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server
        self.streams: list[trio.abc.Stream] = []

    async def __call__(self, _: ServerAddress) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.streams.append(self._server.open_stream())
        return self.streams[-1]


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(
        data=tmp_path / "data",
        auth=AuthSettings(origins=(ADDRESS.origin,), require_origin=True),
        limits=Limits(upload_bytes=1_000_000),
    )
    with trio.fail_after(10):
        async with serve_in_process(create_app(settings), limits=settings.limits) as server:
            yield Dialler(server)


async def test_a_text_from_one_to_the_other(dial: Dialler) -> None:
    async with connect(ADDRESS, ALICE, dial=dial) as alice, connect(ADDRESS, BOB, dial=dial) as bob:
        await alice.send_text(BOB.client_id, "hello")
        assert await anext(bob) == Connected()
        match await anext(bob):
            case Received(DeliveredText(sender, text)):
                assert (sender, text) == (ALICE.client_id, "hello")
            case other:
                pytest.fail(f"unexpected {other}")


async def test_a_text_to_nobody_is_refused(dial: Dialler) -> None:
    async with connect(ADDRESS, ALICE, dial=dial) as alice:
        with pytest.raises(Refused) as caught:
            await alice.send_text(BOB.client_id, "hello")
        assert (caught.value.code, caught.value.user) == ("user_offline", BOB.client_id)


async def test_a_file_from_one_to_the_other(dial: Dialler, tmp_path: Path) -> None:
    content = bytes(range(256)) * 3000
    (tmp_path / "source").write_bytes(content)
    async with connect(ADDRESS, ALICE, dial=dial) as alice, connect(ADDRESS, BOB, dial=dial) as bob:
        uploaded = await upload(ADDRESS, tmp_path / "source", dial=dial)
        await alice.send_file(BOB.client_id, uploaded.url, name="source", size=uploaded.size, sha256=uploaded.sha256)
        assert await anext(bob) == Connected()
        event = await anext(bob)
        assert isinstance(event, Received)
        message = event.message
        assert isinstance(message, DeliveredFile)
        await download(
            ADDRESS,
            message.url,
            tmp_path / "target",
            expected_size=message.size,
            expected_sha256=message.sha256,
            dial=dial,
        )
    assert (tmp_path / "target").read_bytes() == content


async def test_a_file_that_is_too_large_is_refused_with_the_servers_reason(dial: Dialler, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(1_000_001))
    with pytest.raises(TransferFailed, match="1000000 bytes at most") as caught:
        await upload(ADDRESS, tmp_path / "source", dial=dial)
    assert caught.value.status == 413


async def test_a_file_that_the_server_does_not_have(dial: Dialler, tmp_path: Path) -> None:
    url = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
    with pytest.raises(TransferFailed) as caught:
        await download(ADDRESS, url, tmp_path / "target", dial=dial)
    assert caught.value.status == 404


async def test_a_server_that_answers_to_another_name_does_not_let_us_in(dial: Dialler) -> None:
    with pytest.raises(AuthenticationRefused, match="Origin not served here"):
        async with connect("http://elsewhere.test", ALICE, dial=dial):
            pytest.fail("there should be no client")


async def test_a_broken_connection_is_made_again_and_delivers(dial: Dialler) -> None:
    async with connect(ADDRESS, BOB, backoff=Backoff(base_seconds=0.001), dial=dial) as bob:
        await trio.aclose_forcefully(dial.streams[0])
        events = [type(await anext(bob)).__name__ for _ in range(3)]
        assert events == ["Connected", "Disconnected", "Connected"]
        async with connect(ADDRESS, ALICE, dial=dial) as alice:
            await alice.send_text(BOB.client_id, "still there?")
        event = await anext(bob)
        assert isinstance(event, Received)
        assert isinstance(event.message, DeliveredText)


async def heard_in_calls(client: Client, kind: type[ServerMessage]) -> ServerMessage:
    """The next signal, which has to be of this kind."""
    async for event in client:
        if isinstance(event, Received) and event.message.verb.startswith("call_"):
            assert isinstance(event.message, kind), event
            return event.message
    raise AssertionError("a client's events end with an exception")


async def test_a_call_of_two_devices_outlives_a_cut(dial: Dialler, tmp_path: Path) -> None:
    at_once = Backoff(0.01, 0.01)
    phone = DeviceId("phone")
    async with (
        connect(ADDRESS, ALICE, device=phone, store=tmp_path / "a.db", dial=dial, backoff=at_once) as alice,
        connect(ADDRESS, BOB, device=phone, store=tmp_path / "b.db", dial=dial) as bob,
    ):
        call = await alice.calls.offer(BOB.client_id, "offer", "audio")
        assert await heard_in_calls(bob, RelayedOffer) == RelayedOffer(ALICE.client_id, call, "offer", "audio")
        await bob.calls.answer(ALICE.client_id, call, "answer")
        assert await heard_in_calls(alice, RelayedAnswer) == RelayedAnswer(BOB.client_id, call, "answer")
        await trio.aclose_forcefully(dial.streams[0])
        assert await heard_in_calls(alice, RelayedResumed) == RelayedResumed(BOB.client_id, call)
        assert await heard_in_calls(bob, RelayedResumed) == RelayedResumed(ALICE.client_id, call)
        await bob.calls.update(ALICE.client_id, call, "offer", "more")
        assert await heard_in_calls(alice, RelayedUpdate) == RelayedUpdate(BOB.client_id, call, "offer", "more")
        await alice.calls.end(BOB.client_id, call)
        assert await heard_in_calls(bob, RelayedEnd) == RelayedEnd(ALICE.client_id, call, "hangup")


async def test_a_call_without_a_device_ends_with_its_session_on_both_sides(dial: Dialler) -> None:
    async with connect(ADDRESS, ALICE, dial=dial) as alice, connect(ADDRESS, BOB, dial=dial) as bob:
        call = await alice.calls.offer(BOB.client_id, "offer", "audio")
        await heard_in_calls(bob, RelayedOffer)
        await trio.aclose_forcefully(dial.streams[0])
        assert await heard_in_calls(bob, RelayedEnd) == RelayedEnd(ALICE.client_id, call, "disconnected")
        assert await heard_in_calls(alice, RelayedEnd) == RelayedEnd(BOB.client_id, call, "disconnected")
