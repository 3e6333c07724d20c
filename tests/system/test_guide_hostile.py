"""The client of docs/guide/ at a server that does whatever the protocol allows: it redelivers, leaves gaps and holes,
refuses for now and for good, cuts, restarts and replaces. Nothing is lost, nothing comes twice, and the order stands.
"""

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from websockets.asyncio.server import ServerConnection, serve

from ironwire.ids import ClientId, MessageId, Origin
from ironwire.limits import Limits
from ironwire.protocol.auth import Admit, Authentication, AuthPolicy, Challenge, Principal
from ironwire.server.session.admission import announced
from ironwire.wire.codec import decode_client, encode
from ironwire.wire.messages import Accepted, Ack, AuthChallenge, AuthOk, Error, Gap, Resume, ServerMessage, Text
from tests.system.processes import SECONDS, environment
from tests.system.test_guide import CLIENT, identity

LIMITS = Limits(window_envelopes=2, window_bytes=2048, frame_bytes=1024)
BOB = ClientId("b0" * 32)
SOON = 20
HELD = "an earlier message of this session was refused"

M = TypeVar("M", Ack, Text, Resume)


@define(eq=False)
class Peer:
    """One authenticated session, seen from the server."""

    socket: ServerConnection
    _got: deque[tuple[Any, MessageId | None]] = field(factory=deque)

    async def next(self, kind: type[M]) -> tuple[M, MessageId | None]:
        """The next frame of this kind; others wait for whoever asks for them."""
        for got in self._got:
            if isinstance(got[0], kind):
                self._got.remove(got)
                return got[0], got[1]
        while not isinstance((got := decode_client(await self.socket.recv())[:2])[0], kind):
            self._got.append(got)
        return got[0], got[1]

    async def say(self, message: ServerMessage, id_: MessageId | None = None) -> None:
        await self.socket.send(encode(message, id_).decode())

    async def deliver(self, *seqs: int, size: int = 0) -> None:
        for seq in seqs:
            payload = {"from": BOB, "text": f"number {seq}{'.' * size}", "ts": 1, "mood": "of a newer server"}
            await self.socket.send(json.dumps({"type": "text", "seq": seq, "payload": payload}))

    async def acked(self, upto: int) -> None:
        while (await self.next(Ack))[0].upto < upto:
            pass

    async def texts(self, *expected: str) -> list[MessageId | None]:
        """The ids of the next texts, which must be these."""
        got = [await self.next(Text) for _ in expected]
        assert [message.text for message, _ in got] == [*expected]
        return [id_ for _, id_ in got]

    async def refuse(self, first: Error, *ids: MessageId | None) -> None:
        """The first of these, and those behind it."""
        await self.say(first, ids[0])
        for id_ in ids[1:]:
            await self.say(Error(first.msg, HELD, first.user, first.retry_after_ms, held=True), id_)


@define(eq=False)
class Hostile:
    """The server, whose next session the test is given."""

    port: int = 0
    is_late: bool = False
    """Whether nobody gets through authentication in time."""
    _peers: asyncio.Queue[Peer] = field(factory=asyncio.Queue)

    async def serve(self, socket: ServerConnection) -> None:
        principal = await self._authenticate(socket)
        if principal is None:
            return
        if self.is_late:
            self.is_late = False
            await socket.close(1002, "Authentication timeout")
            return
        told = (principal.client, principal.device, 1, 0, 0)
        welcome = AuthOk(*told, server_time=1, limits=announced(LIMITS), features=[], protocol=1)
        await socket.send(encode(welcome).decode())
        self._peers.put_nowait(Peer(socket))
        await socket.wait_closed()

    async def _authenticate(self, socket: ServerConnection) -> Principal | None:
        policy = AuthPolicy(frozenset({Origin(f"http://localhost:{self.port}")}), require_origin=True)
        machine = Authentication(policy)
        async for text in socket:
            match machine.receive(decode_client(text)[0], bytes(32)):
                case Challenge(nonce):
                    await socket.send(encode(AuthChallenge(nonce.hex())).decode())
                case Admit(principal):
                    return principal
                case refused:
                    await socket.close(1008, str(refused))
        return None

    async def accept(self) -> Peer:
        return await self._peers.get()


async def talk(server: Hostile) -> None:
    """What the server does, session by session. The client was told to say 1, 2, one that is too large, 3 and 4."""
    peer = await server.accept()
    await peer.deliver(1, 2)
    await peer.acked(2)
    await peer.deliver(3, size=900)
    await peer.deliver(4, size=900)
    await peer.acked(4)
    one, two, three, four = await peer.texts("1", "2", "3", "4")
    await peer.say(Accepted(1), one)
    await peer.refuse(Error("mailbox_full", user=BOB, retry_after_ms=SOON), two, three, four)
    _, resume = await peer.next(Resume)
    await peer.say(Accepted(1), resume)
    assert await peer.texts("2", "3", "4") == [two, three, four]
    await peer.deliver(5, 6)
    peer.socket.transport.abort()

    peer = await server.accept()
    await peer.deliver(5, 6)
    await peer.say(Gap(7, 9, "expired"))
    await peer.acked(9)
    await peer.deliver(12)
    await peer.acked(12)
    assert await peer.texts("2", "3", "4") == [two, three, four]
    await peer.refuse(Error("internal", retry_after_ms=SOON), two, three, four)
    await peer.socket.close(1012, "retry_ms=10")

    server.is_late = True
    peer = await server.accept()
    await peer.say(Gap(7, 9, "expired"))
    await peer.deliver(12, 13)
    await peer.acked(13)
    await peer.socket.send('{"type":"weather","payload":{"sun":true}}')
    assert await peer.texts("2", "3", "4") == [two, three, four]
    await peer.refuse(Error("rate_limited", retry_after_ms=SOON), two, three, four)
    _, resume = await peer.next(Resume)
    await peer.say(Accepted(1), resume)
    assert await peer.texts("2", "3", "4") == [two, three, four]
    await peer.say(Accepted(1, duplicate=True), two)
    await peer.say(Error("invalid", "nobody takes this"), three)
    await peer.socket.close(4508, "too slow")

    peer = await server.accept()
    assert await peer.texts("4") == [four]
    await peer.socket.close(1009, "message too big")

    peer = await server.accept()
    await peer.deliver(14)
    await peer.acked(14)
    await peer.socket.close(4409, "replaced by a newer session of this device")


async def story(folder: Path) -> tuple[int | None, list[str]]:
    server = Hostile()
    async with asyncio.timeout(SECONDS), serve(server.serve, "127.0.0.1", 0) as listening:
        server.port = next(iter(listening.sockets)).getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, CLIENT, f"ws://LOCALHOST:{server.port}/ws", "ann.key", BOB),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=environment(folder),
        )
        assert client.stdin is not None
        client.stdin.write("\n".join(["1", "2", "x" * 1_024, "3", "4", ""]).encode())
        try:
            await talk(server)
        except BaseException:
            client.kill()
            raise
        finally:
            output, _ = await client.communicate()
            print(output.decode())  # where it failed, pytest shows it
    return client.returncode, output.decode().splitlines()


def test_the_guides_client_loses_nothing_at_a_server_that_does_all_it_may(tmp_path: Path) -> None:
    identity(tmp_path / "ann.key")
    code, lines = asyncio.run(story(tmp_path))
    came = [line.removeprefix(f"{BOB[:8]}: ").rstrip(".") for line in lines if line.startswith(BOB[:8])]
    assert came == [f"number {seq}" for seq in (1, 2, 3, 4, 5, 6, 12, 13, 14)]
    assert lines.count("3 messages are lost: expired") == 1
    errors = [line.removeprefix("error: ").strip() for line in lines if line.startswith("error: ")]
    assert errors == ["too long", "mailbox_full", "internal", "rate_limited", "invalid nobody takes this"]
    assert code == 1
    assert lines[-1] == "the server said: 4409 replaced by a newer session of this device"
