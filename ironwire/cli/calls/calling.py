"""How a call from a terminal goes: offer or answer, wait for sound, talk, hang up. Every step ends in time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio
from attrs import define, field, frozen

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.calls.rtc_peer import RtcPeer, Sound, open_rtc_peer
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import answer_deadline
from ironwire.cli.terminal import err
from ironwire.client.connection.nursery import plain_nursery
from ironwire.ids import CallId, ClientId, DeviceId
from ironwire.wire.messages.calls import EndReason, GivenReason

__all__ = ["Sound", "Talk", "run_call"]

CONNECT_SECONDS = 30.0
"""From the answer to the first way on which sound gets through."""

GOODBYE_SECONDS = 2.0

OFTEN = iw.Backoff(cap_seconds=2.0)
"""A server keeps a device's part in a call for seconds only."""

_ENDINGS: dict[GivenReason, str] = {
    "hangup": "the other side hung up",
    "declined": "the other side declined",
    "busy": "the other side is busy",
    "failed": "the other side got no sound through",
    "answered_elsewhere": "another device has answered",
    "timeout": "nobody answered",
    "glare": "both sides called at the same time, and the other call goes on",
    "disconnected": "one side lost its connection to the server",
}


@frozen
class Talk:
    """The call that was asked for."""

    sound: Sound
    seconds: float
    wait_seconds: float
    is_relayed: bool
    device: DeviceId


async def run_call(
    address: iw.ServerAddress,
    key_file: KeyFile,
    book: AddressBook,
    peer: ClientId | None,
    talk: Talk,
    *,
    is_called: bool,
) -> float:
    """Make a call to `peer`, or answer one: from `peer` alone if it is given. How many seconds of sound came in.

    Raises:
        CallFailed: there was no call, or no sound got through.
        ClientError: as from `connect`.
    """
    async with key_file.connect(address, talk.device, backoff=OFTEN) as client:
        with answer_deadline():
            servers = await client.calls.ice_servers()
        async with open_rtc_peer(servers, talk.sound, is_relayed=talk.is_relayed) as rtc_peer:
            if peer is None or is_called:
                line = await _pick_up(client, rtc_peer, book, peer, talk.wait_seconds)
            else:
                err().print(f"calling {book.label(peer)}")
                with answer_deadline():
                    call = await client.calls.offer(peer, await rtc_peer.offer(), "audio")
                line = _Line(client, rtc_peer, peer, call)
            await line.talk(talk)
            return rtc_peer.heard_seconds


@define(eq=False)
class _Line:
    """A call that was offered, seen from one of its ends."""

    client: iw.Client
    rtc_peer: RtcPeer
    peer: ClientId
    id: CallId
    is_answered: trio.Event = field(factory=trio.Event)
    our_answer: str | None = None
    """Signals to the caller, who may have missed them."""
    is_connected: bool = False
    is_cut_off: bool = False
    """There is no session now, and the call goes on without."""
    messages: int = 0
    """That came to this device meanwhile."""
    end: GivenReason | None = None
    """Why it is over, if the other side or the server said so."""

    async def talk(self, talk: Talk) -> None:
        """Wait until sound gets through, then for as long as was asked for, and hang up.

        Raises:
            CallFailed: it never got so far.
        """
        try:
            async with plain_nursery() as nursery:
                nursery.start_soon(self._listen, nursery.cancel_scope)
                with _within(talk.wait_seconds, f"nobody answered within {talk.wait_seconds:g} s"):
                    await self.is_answered.wait()
                with _within(CONNECT_SECONDS, f"no sound got through within {CONNECT_SECONDS:g} s of the answer"):
                    await self.rtc_peer.wait_connected()
                self.is_connected = True
                err().print(f"connected, for {talk.seconds:g} s")
                await trio.sleep(talk.seconds)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                await self.hang_up("hangup" if self.is_connected else "failed")
        if not self.is_connected:
            raise iw.CallFailed("the call is over" if self.end is None else f"the call is over: {_ENDINGS[self.end]}")
        if self.end is not None:
            err().print(f"the call is over: {_ENDINGS[self.end]}")
        if self.messages:
            came = "a message" if self.messages == 1 else f"{self.messages} messages"
            err().print(f"{came} came during the call: see `ironwire history`")

    async def hang_up(self, reason: EndReason) -> None:
        """Say goodbye, unless the other side did."""
        if self.end is None:
            with suppress(iw.ClientError):
                await self.client.calls.end(self.peer, self.id, reason)

    async def _listen(self, scope: trio.CancelScope) -> None:
        async for event in self.client:
            match event:
                case iw.Received(iw.RelayedRinging(call=self.id)):
                    err().print("it rings")
                case iw.Received(iw.RelayedAnswer(call=self.id, sdp=sdp)):
                    await self._take_answer(sdp)
                case iw.Received(iw.RelayedCandidate(call=self.id, candidate=candidate)):
                    await self.rtc_peer.add(candidate)
                case iw.Received(iw.RelayedUpdate(call=self.id, kind="answer", sdp=sdp)):
                    await self._take_answer(sdp)
                case iw.Received(iw.RelayedUpdate(call=self.id, sdp=sdp)):
                    await self._change(sdp)
                case iw.Received(iw.RelayedResumed(call=self.id)):
                    await self._resume()
                case iw.Received(iw.RelayedEnd(call=self.id, reason=reason)):
                    self.end = reason
                    scope.cancel()
                case iw.Disconnected() if not self.is_cut_off:
                    self.is_cut_off = True
                    err().print("no connection to the server: the call goes on")
                case iw.Received(iw.DeliveredText() | iw.DeliveredFile()):
                    self.messages += 1
                case _:
                    pass  # it is not about this call

    async def _take_answer(self, sdp: str) -> None:
        if not self.is_answered.is_set():
            await self.rtc_peer.accept(sdp)
            self.is_answered.set()

    async def _change(self, sdp: str) -> None:
        """The other side wants another connection, or another sound in this one. aiortc cannot restart ICE."""
        try:
            answer = await self.rtc_peer.answer(sdp)
        except iw.CallFailed as error:
            err().print(f"the other side wants to change the call, and that cannot be done: {error}")
            return
        await self._update_answer(answer)

    async def _resume(self) -> None:
        """The call goes on after one of the sides was cut off, which may have missed what was said to it."""
        if self.is_cut_off:
            self.is_cut_off = False
            err().print("the server is back")
        if self.our_answer is not None and not self.is_connected:
            await self._update_answer(self.our_answer)

    async def _update_answer(self, sdp: str) -> None:
        with suppress(iw.Refused):  # the call is over, and that comes as an event
            await self.client.calls.update(self.peer, self.id, "answer", sdp)


async def _pick_up(
    client: iw.Client, rtc_peer: RtcPeer, book: AddressBook, peer: ClientId | None, wait_seconds: float
) -> _Line:
    err().print(f"you are {client.client_id}")
    err().print("waiting for a call" + ("" if peer is None else f" from {book.label(peer)}"))
    with _within(wait_seconds, f"nobody called within {wait_seconds:g} s"):
        offer = await _next_offer(client, peer)
    err().print(f"{book.label(offer.sender)} calls")
    line = _Line(client, rtc_peer, offer.sender, offer.call)
    try:
        with answer_deadline():
            await client.calls.ringing(offer.sender, offer.call)
            line.our_answer = await rtc_peer.answer(offer.sdp)
            await client.calls.answer(offer.sender, offer.call, line.our_answer)
    except iw.CallFailed:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await line.hang_up("failed")
        raise
    line.is_answered.set()
    return line


async def _next_offer(client: iw.Client, peer: ClientId | None) -> iw.RelayedOffer:
    async for event in client:
        if (
            isinstance(event, iw.Received)
            and isinstance(event.message, iw.RelayedOffer)
            and peer in (None, event.message.sender)
        ):
            return event.message
    raise AssertionError("a client's events end with an exception")


@contextmanager
def _within(seconds: float, complaint: str) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise iw.CallFailed(complaint) from None
