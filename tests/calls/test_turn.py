"""coturn takes the credentials that the server issues, and no others."""

import asyncio
import time
from collections.abc import Callable

import aioice.stun
import aioice.turn
import pytest
import trio

from ironwire.cli.calls.rtc_peer import Sound, open_rtc_peer
from ironwire.client import CallFailed, IceServerList, connect, load_identity
from ironwire.handlers.ice import credential
from ironwire.wire.messages import IceServer
from tests.calls.conftest import SECRET, Caller, Coturn

SECONDS = 10.0
UNAUTHORIZED = 401


async def allocate(coturn: Coturn, username: str, password: str) -> None:
    """Get a relay from coturn, and give it back."""
    async with asyncio.timeout(SECONDS):
        transport, _ = await aioice.turn.create_turn_endpoint(
            asyncio.DatagramProtocol, server_addr=("127.0.0.1", coturn.port), username=username, password=password
        )
        transport.close()
        await asyncio.sleep(0.1)  # it is given back in a task that nobody can wait for


def refused_with(coturn: Coturn, username: str, password: str) -> int:
    with pytest.raises(aioice.stun.TransactionFailed) as caught:
        asyncio.run(allocate(coturn, username, password))
    code: int = caught.value.response.attributes["ERROR-CODE"][0]
    return code


def test_what_the_server_issues_is_taken(make_caller: Callable[[str], Caller], coturn: Coturn) -> None:
    alice = make_caller("alice")

    async def ask() -> tuple[list[str], str | None, str | None]:
        with trio.fail_after(SECONDS):
            async with connect(alice.server, load_identity(alice.folder / "key")) as client:
                (server,) = (await client.calls.ice_servers()).servers
                return server.urls, server.username, server.credential

    urls, username, password = trio.run(ask)
    assert urls == [coturn.url]
    assert username is not None
    assert password is not None
    assert alice.id not in username
    asyncio.run(allocate(coturn, username, password))


def test_a_phone_that_is_refused_says_so(coturn: Coturn) -> None:
    ended = f"{int(time.time()) - 1}:tag"
    servers = IceServerList([IceServer([coturn.url], ended, credential(SECRET, ended))])

    async def offer() -> str:
        with trio.fail_after(SECONDS):
            async with open_rtc_peer(servers, Sound(440, None, None), is_relayed=True) as phone:
                return await phone.offer()

    with pytest.raises(CallFailed, match="does not let us in"):
        trio.run(offer)


def test_what_has_ended_is_refused(coturn: Coturn) -> None:
    ended = f"{int(time.time()) - 1}:tag"
    assert refused_with(coturn, ended, credential(SECRET, ended)) == UNAUTHORIZED


def test_what_was_made_without_the_secret_is_refused(coturn: Coturn) -> None:
    good = f"{int(time.time()) + 60}:tag"
    assert refused_with(coturn, good, credential("another secret", good)) == UNAUTHORIZED
    later = f"{int(time.time()) + 6000}:tag"
    assert refused_with(coturn, later, credential(SECRET, good)) == UNAUTHORIZED
