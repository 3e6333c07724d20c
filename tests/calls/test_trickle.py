"""Candidates that come one by one, as browsers send them, through the server's signals and into a real connection."""

from collections.abc import Callable
from pathlib import Path

import aioice.ice
import pytest
import trio

from ironwire.cli.calls.rtc_peer import RtcPeer, Sound, open_rtc_peer
from ironwire.client import (
    Candidate,
    Client,
    IceServerList,
    Received,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    connect,
    load_identity,
)
from ironwire.ids import CallId, ClientId
from tests.calls.conftest import Caller
from tests.calls.sound import STEP_HZ, loudest_hertz

SECONDS = 30.0
NO_SERVERS = IceServerList([])


def split(sdp: str) -> tuple[str, list[Candidate]]:
    """The description without its candidates, and these."""
    lines = sdp.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("a=candidate", "a=end-of-candidates"))]
    named = [line.strip().removeprefix("a=") for line in lines if line.startswith("a=candidate")]
    return "".join(kept), [*(Candidate(each, "0", 0) for each in named), Candidate("", "0", 0)]


async def call(client: Client, phone: RtcPeer, to: ClientId) -> None:
    """Offer, name candidates before and after the answer, and talk."""
    sdp, candidates = split(await phone.offer())
    id_ = await client.calls.offer(to, sdp, "audio")
    for candidate in candidates:
        await client.calls.candidate(to, id_, candidate)
    async for event in client:
        match event:
            case Received(RelayedAnswer(sdp=answer)):
                await phone.accept(answer)
            case Received(RelayedCandidate(candidate=candidate)):
                await phone.add(candidate)
                if not candidate.candidate:
                    break
            case _:
                pass
    await phone.wait_connected()
    await trio.sleep(2)
    await client.calls.end(to, id_)


async def answer(client: Client, phone: RtcPeer) -> None:
    async for event in client:
        match event:
            case Received(RelayedOffer(sender=sender, call=id_, sdp=offer)):
                await take(client, phone, sender, id_, offer)
            case Received(RelayedCandidate(candidate=candidate)):
                await phone.add(candidate)
            case Received(RelayedEnd(reason=reason)):
                assert reason == "hangup"
                return
            case _:
                pass


async def take(client: Client, phone: RtcPeer, sender: ClientId, call: CallId, offer: str) -> None:
    sdp, candidates = split(await phone.answer(offer))
    await client.calls.answer(sender, call, sdp)
    for candidate in candidates:
        await client.calls.candidate(sender, call, candidate)


def test_candidates_are_passed_on(
    make_caller: Callable[[str], Caller], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    alice, bob = make_caller("alice"), make_caller("bob")
    at_alice, at_bob = tmp_path / "alice.wav", tmp_path / "bob.wav"

    async def converse() -> None:
        with trio.fail_after(SECONDS):
            async with (
                connect(alice.server, load_identity(alice.folder / "key")) as alices,
                connect(bob.server, load_identity(bob.folder / "key")) as bobs,
                open_rtc_peer(NO_SERVERS, Sound(440, None, at_alice), is_relayed=False) as alices_phone,
                open_rtc_peer(NO_SERVERS, Sound(880, None, at_bob), is_relayed=False) as bobs_phone,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(answer, bobs, bobs_phone)
                await call(alices, alices_phone, bob.id)

    trio.run(converse)
    assert abs(loudest_hertz(at_alice) - 880) <= STEP_HZ
    assert abs(loudest_hertz(at_bob) - 440) <= STEP_HZ
