"""How a call from a terminal goes: offer or answer, wait for sound, talk, hang up. Every step ends in time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio
from attrs import define, field, frozen

from ironwire.cli.options import answer_deadline
from ironwire.cli.phone import Phone, Sound, open_phone
from ironwire.cli.terminal import err
from ironwire.client import (
    CallFailed,
    Client,
    ClientError,
    Disconnected,
    Identity,
    Received,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedRinging,
    ServerAddress,
    connect,
)
from ironwire.client.nursery import plain_nursery
from ironwire.ids import CallId, ClientId
from ironwire.wire.messages.calls import EndReason

__all__ = ["Sound", "Talk", "run_call"]

CONNECT_SECONDS = 30.0
"""From the answer to the first way on which sound gets through."""

GOODBYE_SECONDS = 2.0


@frozen
class Talk:
    """What was asked for."""

    sound: Sound
    seconds: float
    wait_seconds: float
    is_relayed: bool


async def run_call(
    address: ServerAddress, identity: Identity, peer: ClientId | None, talk: Talk, *, is_called: bool
) -> float:
    """Make a call to `peer`, or answer one: from `peer` alone if it is given. How many seconds of sound came in.

    Raises:
        CallFailed: there was no call, or no sound got through.
        ClientError: as from `connect`.
    """
    async with connect(address, identity) as client:
        with answer_deadline():
            servers = await client.calls.ice_servers()
        async with open_phone(servers, talk.sound, is_relayed=talk.is_relayed) as phone:
            if peer is None or is_called:
                line = await _pick_up(client, phone, peer, talk.wait_seconds)
            else:
                with answer_deadline():
                    call = await client.calls.offer(peer, await phone.offer(), "audio")
                line = _Line(client, phone, peer, call)
            await line.talk(talk)
            return phone.heard_seconds


@define(eq=False)
class _Line:
    """A call that was offered, seen from one of its ends."""

    client: Client
    phone: Phone
    peer: ClientId
    id: CallId
    is_answered: trio.Event = field(factory=trio.Event)
    is_connected: bool = False
    end: str | None = None
    """Why it is over, if the other side or the server said so."""

    async def talk(self, talk: Talk) -> None:
        """Wait until sound gets through, then for as long as was asked for, and hang up.

        Raises:
            CallFailed: it never got so far.
        """
        try:
            async with plain_nursery() as nursery:
                nursery.start_soon(self._listen, nursery.cancel_scope)
                with _patience(talk.wait_seconds, f"nobody answered within {talk.wait_seconds:g} s"):
                    await self.is_answered.wait()
                with _patience(CONNECT_SECONDS, f"no sound got through within {CONNECT_SECONDS:g} s of the answer"):
                    await self.phone.wait_connected()
                self.is_connected = True
                err().print("connected")
                await trio.sleep(talk.seconds)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                await self.hang_up("hangup" if self.is_connected else "failed")
        if not self.is_connected:
            raise CallFailed(f"the call is over: {self.end}")

    async def hang_up(self, reason: EndReason) -> None:
        """Say goodbye, unless the other side did."""
        if self.end is None:
            with suppress(ClientError):
                await self.client.calls.end(self.peer, self.id, reason)

    async def _listen(self, scope: trio.CancelScope) -> None:
        async for event in self.client:
            match event:
                case Received(RelayedRinging(call=self.id)):
                    err().print("it rings")
                case Received(RelayedAnswer(call=self.id, sdp=sdp)):
                    await self.phone.accept(sdp)
                    self.is_answered.set()
                case Received(RelayedCandidate(call=self.id, candidate=candidate)):
                    await self.phone.add(candidate)
                case Received(RelayedEnd(call=self.id, reason=reason)):
                    self.end = reason
                case Disconnected(reason):
                    self.end = reason
                case _:
                    pass  # it is not about this call
            if self.end is not None:
                scope.cancel()


async def _pick_up(client: Client, phone: Phone, peer: ClientId | None, wait_seconds: float) -> _Line:
    err().print(f"{client.client_id} waits for a call")
    with _patience(wait_seconds, f"nobody called within {wait_seconds:g} s"):
        offer = await _next_offer(client, peer)
    line = _Line(client, phone, offer.sender, offer.call)
    try:
        with answer_deadline():
            await client.calls.ringing(offer.sender, offer.call)
            await client.calls.answer(offer.sender, offer.call, await phone.answer(offer.sdp))
    except CallFailed:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await line.hang_up("failed")
        raise
    line.is_answered.set()
    return line


async def _next_offer(client: Client, peer: ClientId | None) -> RelayedOffer:
    async for event in client:
        if (
            isinstance(event, Received)
            and isinstance(event.message, RelayedOffer)
            and peer in (None, event.message.sender)
        ):
            return event.message
    raise AssertionError("a client's events end with an exception")


@contextmanager
def _patience(seconds: float, complaint: str) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise CallFailed(complaint) from None
