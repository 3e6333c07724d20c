"""A client of this project at a server of this project that takes neither unknown clients nor their files."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from ironwire.client import (
    AuthenticationRefused,
    ConnectionFailed,
    Identity,
    ServerAddress,
    TransferFailed,
    connect,
    upload,
)
from ironwire.client.connection.session import open_session
from ironwire.ids import DeviceId
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.core import wall_clock_ms
from ironwire.server.operator.config import AuthSettings, Settings, UploadSettings
from ironwire.store.invites import INVITES, Invites
from tests.client.test_with_the_server import Dialler
from tests.playbook import installed_guard
from tests.server.in_process import serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE = Identity.from_seed(b"a" * 32)
PHONE = DeviceId("phone")


@pytest.fixture
async def dial(tmp_path: Path) -> AsyncIterator[Dialler]:
    settings = Settings(
        data=tmp_path / "data",
        auth=AuthSettings(origins=(ADDRESS.origin,), registration="invite"),
        upload=UploadSettings(auth="token"),
    )
    with trio.fail_after(10):
        async with serve_in_process(create_app(settings), limits=Limits()) as server:
            yield Dialler(server)


async def test_an_invite_and_then_a_token_for_each_file(dial: Dialler, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationRefused, match="Not registered here"):
        async with connect(ADDRESS, ALICE, dial=dial):
            pass
    invite = Invites(tmp_path / "data" / INVITES, wall_clock_ms).make(1, 1)
    async with connect(ADDRESS, ALICE, device=PHONE, store=tmp_path / "store", invite=invite, dial=dial):
        pass
    (tmp_path / "source").write_bytes(b"a file")
    with pytest.raises(TransferFailed, match="upload_token") as refused:
        await upload(ADDRESS, tmp_path / "source", dial=dial)
    assert refused.value.status == 401
    async with connect(ADDRESS, ALICE, dial=dial) as alice:
        for _ in range(2):
            token = await alice.upload_token()
            uploaded = await upload(ADDRESS, tmp_path / "source", token=token, dial=dial)
            assert uploaded.expires is not None
            assert uploaded.expires > wall_clock_ms() + 89 * 86_400_000


async def test_too_many_attempts_are_no_reason_to_give_up(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path / "data",
        auth=AuthSettings(origins=(ADDRESS.origin,)),
        limits=Limits(attempts_per_minute=1),
    )

    class ForwardingDialler(Dialler):
        """A proxy that says whose connection it is."""

        async def __call__(self, address: ServerAddress) -> trio.abc.Stream:
            stream = await super().__call__(address)
            send_all = stream.send_all

            async def send_with_header(data: bytes) -> None:
                request_line, line_end, rest = data.partition(b"HTTP/1.1\r\n")
                own = b"X-Forwarded-For: 192.0.2.1\r\n" if line_end else b""
                await send_all(request_line + line_end + own + rest)

            stream.send_all = send_with_header  # type: ignore[method-assign,assignment]  # a memory stream of a test
            return stream

    with trio.fail_after(10):
        async with serve_in_process(create_app(settings), guard=installed_guard()) as server:
            dial = ForwardingDialler(server)
            async with open_session(ADDRESS, ALICE, dial=dial):
                pass
            with pytest.raises(ConnectionFailed, match="try again later"):
                async with open_session(ADDRESS, ALICE, dial=dial):
                    pass
