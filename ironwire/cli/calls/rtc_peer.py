"""One end of an audio call: a tone or a file goes out, and what comes in is recorded.

aiortc does all of it. It is optional (`ironwire[calls]`), so this module is imported when there is a call, and
not before. It wants asyncio, which therefore runs in a thread of its own; `RtcPeer` is what Trio sees of it.
"""

import array
import asyncio
import math
import wave
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import trio
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from attrs import define, field, frozen
from av import AudioFrame

from ironwire.client import CallFailed, Candidate, IceServerList
from ironwire.client.connection.nursery import plain_nursery

CLOSE_SECONDS = 5.0
LOUDNESS = 0.5
"""The amplitude of a tone; 1 is the loudest."""

T = TypeVar("T")


@frozen
class Sound:
    """The file to play, if there is one, and where it records what it hears, as 16-bit WAV."""

    tone_hz: float
    file: Path | None
    recording: Path | None


class Tone(AudioStreamTrack):
    """A sine, in frames of 20 ms."""

    def __init__(self, hertz: float) -> None:
        super().__init__()
        self._hertz = hertz

    async def recv(self) -> AudioFrame:
        silence = await super().recv()  # at its time, and with its time on it
        if not isinstance(silence, AudioFrame) or silence.pts is None:
            raise MediaStreamError
        step = 2 * math.pi * self._hertz / silence.sample_rate
        samples = (math.sin(step * (silence.pts + index)) for index in range(silence.samples))
        silence.planes[0].update(array.array("h", (round(32_767 * LOUDNESS * sample) for sample in samples)).tobytes())
        return silence


@define(eq=False)
class RtcPeer:
    """One end of a call. Either `offer` and then `accept`, or `answer`; the other side's candidates at any time."""

    _loop: asyncio.AbstractEventLoop
    _peer: RTCPeerConnection
    _is_settled: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Connected, or never to be."""
    _is_over: asyncio.Event = field(factory=asyncio.Event, init=False)
    _is_described: bool = field(default=False, init=False)
    """The other side's session description is known."""
    _early: list[Candidate] = field(factory=list, init=False)
    """Candidates that came before it."""
    heard_seconds: float = field(default=0.0, init=False)
    """How much sound has come in."""

    async def offer(self) -> str:
        """The session description for the callee, with every candidate in it.

        Raises:
            CallFailed: there is none.
        """
        return await self._in_loop(self._describe(self._peer.createOffer))

    async def accept(self, sdp: str) -> None:
        """Raises:
        CallFailed: the callee's answer cannot be used.
        """
        await self._in_loop(self._hear(RTCSessionDescription(sdp, "answer")))

    async def answer(self, sdp: str) -> str:
        """The answer to a caller's session description, with every candidate in it.

        Raises:
            CallFailed: the offer cannot be used, or there is no candidate.
        """
        await self._in_loop(self._hear(RTCSessionDescription(sdp, "offer")))
        return await self._in_loop(self._describe(self._peer.createAnswer))

    async def add(self, candidate: Candidate) -> None:
        """One more way to reach the other side. One that makes no sense is none."""
        await self._in_loop(self._add(candidate))

    async def wait_connected(self) -> None:
        """Return when sound can flow.

        Raises:
            CallFailed: it cannot, on any of the ways that the two sides have named.
        """
        await self._in_loop(self._is_settled.wait())
        if self._peer.connectionState != "connected":
            raise CallFailed("no sound gets through: both sides may need a TURN server")

    def hang_up(self) -> None:
        """End it; the thread follows within `CLOSE_SECONDS`."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._is_over.set)

    async def live(self, source: MediaStreamTrack, recording: Path | None) -> None:
        """In the thread: play and record, until it is hung up."""
        listening: set[asyncio.Task[None]] = set()

        def track_came(track: MediaStreamTrack) -> None:
            listening.add(asyncio.create_task(self._listen(track, recording)))

        def state_changed() -> None:
            if self._peer.connectionState in ("connected", "failed", "closed"):
                self._is_settled.set()

        self._peer.on("track", track_came)
        self._peer.on("connectionstatechange", state_changed)
        self._peer.addTrack(source)
        await self._is_over.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._peer.close()
                await asyncio.gather(*listening)

    async def _describe(self, create: Callable[[], Coroutine[Any, Any, RTCSessionDescription]]) -> str:
        await self._peer.setLocalDescription(await create())
        sdp = str(self._peer.localDescription.sdp)
        if "a=candidate" not in sdp:
            raise CallFailed("nobody could reach us: there is no network, or the TURN server does not let us in")
        return sdp

    async def _hear(self, description: RTCSessionDescription) -> None:
        try:
            await self._peer.setRemoteDescription(description)
        except Exception as error:  # whatever aiortc's parser stumbles over; a peer wrote it
            raise CallFailed(f"the other side's {description.type} cannot be used: {error}") from error
        self._is_described = True
        early, self._early = self._early, []
        for candidate in early:
            await self._add(candidate)

    async def _add(self, candidate: Candidate) -> None:
        if not self._is_described:
            self._early.append(candidate)
            return
        with suppress(Exception):  # as above: a peer wrote it
            parsed = candidate_from_sdp(candidate.candidate.removeprefix("candidate:")) if candidate.candidate else None
            if parsed is not None:
                parsed.sdpMid, parsed.sdpMLineIndex = candidate.sdp_mid, candidate.sdp_mline_index
            await self._peer.addIceCandidate(parsed)

    async def _listen(self, track: MediaStreamTrack, recording: Path | None) -> None:
        """Take what comes until it ends; then the file is whole."""
        output: wave.Wave_write | None = None
        try:
            while True:
                frame = await track.recv()
                if not isinstance(frame, AudioFrame):
                    continue
                self.heard_seconds += frame.samples / frame.sample_rate
                if recording is not None:
                    channels = len(frame.layout.channels)
                    if output is None:
                        output = wave.open(str(recording), "wb")  # noqa: SIM115  # closed below, if it was opened at all
                        output.setparams((channels, 2, frame.sample_rate, 0, "NONE", ""))
                    output.writeframes(bytes(frame.planes[0])[: frame.samples * channels * 2])
        except MediaStreamError:
            pass  # somebody has hung up
        except OSError as error:
            raise CallFailed(f"{recording} cannot be written: {error}") from error
        finally:
            if output is not None:
                output.close()

    async def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in the thread; what it raises comes out here, and if this is cancelled, so is it."""
        done, token = trio.Event(), trio.lowlevel.current_trio_token()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: token.run_sync_soon(done.set))
        try:
            await done.wait()
        finally:
            future.cancel()
        return future.result()


@asynccontextmanager
async def open_rtc_peer(servers: IceServerList, sound: Sound, *, is_relayed: bool) -> AsyncIterator[RtcPeer]:
    """A peer that is hung up when the block is left. `is_relayed`: all sound goes through a TURN server.

    Raises:
        CallFailed: the file cannot be played, or there is no TURN server.
    """
    if is_relayed and not any(server.username for server in servers.servers):
        raise CallFailed("this server offers no TURN server: leave out --relay")
    policy = RTCIceTransportPolicy.RELAY if is_relayed else RTCIceTransportPolicy.ALL
    # Never without a list: aiortc would then ask a public STUN server.
    listed = [RTCIceServer([*server.urls], server.username, server.credential) for server in servers.servers]
    async with plain_nursery() as nursery:
        rtc_peer: RtcPeer = await nursery.start(
            _serve, RTCConfiguration(iceServers=listed, iceTransportPolicy=policy), sound
        )
        try:
            yield rtc_peer
        finally:
            rtc_peer.hang_up()


async def _serve(configuration: RTCConfiguration, sound: Sound, *, task_status: trio.TaskStatus[RtcPeer]) -> None:
    async def live() -> None:
        source = _source(sound)
        rtc_peer = RtcPeer(asyncio.get_running_loop(), RTCPeerConnection(configuration))
        trio.from_thread.run_sync(lambda: task_status.started(rtc_peer))
        trio.from_thread.check_cancelled()  # then nobody can hang it up
        await rtc_peer.live(source, sound.recording)

    await trio.to_thread.run_sync(asyncio.run, live())


def _source(sound: Sound) -> MediaStreamTrack:
    if sound.file is None:
        return Tone(sound.tone_hz)
    try:
        # One file and nothing that it refers to: a playlist could name anything on the disk or in the network.
        track = MediaPlayer(str(sound.file), options={"protocol_whitelist": "file"}).audio
    except (OSError, ValueError) as error:
        raise CallFailed(f"{sound.file} cannot be played: {error}") from error
    if track is None:
        raise CallFailed(f"{sound.file} cannot be played: there is no sound in it")
    return track
