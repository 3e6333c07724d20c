"""One program has a device, others hand over to it: what they may ask, what comes back, and who is kept out."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from ironwire import client as library
from ironwire import unix_socket
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.scripting.outbound import Outgoing, send_as_device
from ironwire.client import (
    Accepted,
    AuthenticationRefused,
    Backoff,
    Client,
    ClientError,
    Connected,
    ConnectionFailed,
    DeviceInUse,
    DeviceOwner,
    Error,
    LocalStoreError,
    NotTheProtocol,
    OwnerGone,
    Queued,
    Refused,
    SessionEnded,
    Settled,
    Stored,
    StoreKey,
    default_store_path,
    new_message_id,
    open_device,
    read_history,
)
from ironwire.client.store.handover import MOST_AT_A_TIME, socket_path
from ironwire.client.store.handover_lines import AskServer, Failed, Keep, decode_line, encode_line
from ironwire.client.store.records import Queue, Sendable
from ironwire.client.store.store import LocalStore
from ironwire.ids import DeviceId, MessageId
from ironwire.wire.codec import decode_client, encode
from ironwire.wire.messages import Devices, File, Presence, Text, UploadGrant, UploadToken
from tests.client.scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server
from tests.client.test_offline import ALICE, BOB, OWNER, PHONE

URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
ONE, TWO = MessageId("1"), MessageId("2")
SOON = Backoff(0.01, 0.01)
T = TypeVar("T")


class _Keyless(KeyFile):
    """Of devices without keys of their own: the scripted server keeps no device logs."""

    async def _keys(self, device: DeviceId) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(30):
        async with scripted_server() as server:
            yield server


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One to which every user finds the way."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@asynccontextmanager
async def phone(server: ScriptedServer, path: Path) -> AsyncIterator[tuple[Client, Peer, DeviceOwner]]:
    """The program that has the device; and the way to it, for another one."""
    async with open_device(ADDRESS, ALICE, PHONE, store=path, backoff=SOON, dial=server.dial) as client:
        peer = await server.accept()
        assert await anext(client) == Connected()
        yield client, peer, DeviceOwner(ADDRESS, path)


async def queued(owner: DeviceOwner, *messages: Sendable) -> Stored:
    """Hand over messages that nobody has handed over before."""
    return await owner.queue(*messages, ids=[new_message_id() for _ in messages])


async def say(path: Path, line: bytes) -> dict[str, object]:
    """What is answered to any line."""
    stream = await unix_socket.connect(socket_path(path))
    assert stream is not None
    async with stream:
        await stream.send_all(line.rstrip(b"\n") + b"\n")
        answer, _ = await unix_socket.read_line(stream, 10_000)
    found: dict[str, object] = json.loads(answer)
    return found


async def test_a_text_goes_through_the_program_that_has_the_device(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (client, peer, owner):
        async with owner.sending(Text(BOB, "hello"), new_message_id()) as (stored, accepted):
            message, message_id = await peer.receive()
            assert (message, [message_id]) == (Text(BOB, "hello"), stored.ids)
            assert (stored.waiting, stored.reason) == (1, "")
            await peer.send(Accepted(7), message_id)
            assert await accepted() == Accepted(7)
        queued, settled = await anext(client), await anext(client)
        assert isinstance(queued, Queued)
        assert isinstance(settled, Settled)
        assert (queued.id, settled.id, settled.reply) == (message_id, message_id, Accepted(7))
        assert [entry.state for entry in await client.history(BOB, 9)] == ["accepted"]


async def test_a_refusal_is_raised_where_the_text_came_from(server: ScriptedServer, tmp_path: Path) -> None:
    async with (
        phone(server, tmp_path / "phone.db") as (_, peer, owner),
        owner.sending(Text(BOB, "hi"), new_message_id()) as (_, accepted),
    ):
        _, message_id = await peer.receive()
        await peer.send(Error("user_offline", user=BOB), message_id)
        with pytest.raises(Refused) as caught:
            await accepted()
        assert (caught.value.code, caught.value.user) == ("user_offline", BOB)


async def test_what_no_server_takes_is_refused_and_not_kept(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (client, _, owner):
        with pytest.raises(Refused, match="name"):
            await queued(owner, Text(BOB, "fine"), File(BOB, URL, name="gpj.\u202eexe"))
        assert client.waiting == 0


async def test_many_lines_are_kept_with_one_request_and_need_no_answer(server: ScriptedServer, tmp_path: Path) -> None:
    texts = [Text(BOB, str(number)) for number in range(5_000)]
    async with phone(server, tmp_path / "phone.db") as (client, peer, owner):
        await peer.cut()
        stored = await queued(owner, *texts)
        assert len({*stored.ids}) == client.waiting == stored.waiting == 5_000
        assert [entry.id for entry in await client.history(BOB, 5_000)] == stored.ids


async def test_who_hangs_up_has_sent_all_the_same(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (client, peer, owner):
        async with owner.sending(Text(BOB, "bye"), new_message_id()):
            pass
        assert (await peer.receive())[0] == Text(BOB, "bye")
        assert client.waiting == 1


async def test_a_question_is_asked_over_the_session_that_there_is(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (_, peer, owner), trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await owner.upload_token() == "token"

        nursery.start_soon(ask)
        message, message_id = await peer.receive()
        assert message == UploadToken()
        await peer.send(UploadGrant("token", 1, 1), message_id)


async def test_why_nothing_is_sent_is_said(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (client, peer, owner):
        await peer.close(4409, "replaced")
        await anext(client)
        async with owner.sending(Text(BOB, "hello"), new_message_id()) as (stored, _):
            assert (stored.waiting, stored.reason) == (1, "the session is over (replaced)")
        with pytest.raises(SessionEnded, match="replaced"):
            await owner.upload_token()


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationRefused("no"),
        SessionEnded(4403, "removed"),
        LocalStoreError("the disk is full"),
        NotTheProtocol("what is that?"),
        ConnectionFailed("nobody answers"),
    ],
)
def test_an_error_comes_back_as_it_was_raised(error: ClientError) -> None:
    again = Failed.of(error).error()
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"", "not a line"),
        (b"[]", "not a line"),
        (b"\xff", "not a line"),
        (b'{"verb":"nothing"}', "not a line"),
        (b'{"verb":["keep"]}', "not a line"),
        (b'{"verb":"stored","ids":[],"waiting":0,"reason":""}', "no request"),
        (b'{"verb":"keep","frames":"x","is_awaited":true}', "must be a list"),
        (b'{"verb":"keep","frames":[],"is_awaited":1}', "is_awaited must be true or false"),
        (b'{"verb":"keep","frames":["x"],"is_awaited":false}', "not JSON"),
        (encode_line(Keep([encode(Devices()).decode()], is_awaited=False)), "not kept"),
        (encode_line(Keep([encode(Text(BOB, "x")).decode()], is_awaited=False)), "has an id"),
        (encode_line(AskServer(encode(Presence("online")).decode())), "cannot be handed over"),
        (encode_line(AskServer(encode(Text(BOB, "x")).decode())), "cannot be handed over"),
    ],
)
async def test_what_is_no_request_is_refused_and_changes_nothing(
    server: ScriptedServer, tmp_path: Path, line: bytes, word: str
) -> None:
    async with phone(server, tmp_path / "phone.db") as (client, _, owner):
        answer = await say(tmp_path / "phone.db", line)
        assert answer["verb"] in ("failed", "answered")
        assert word in json.dumps(answer)
        assert client.waiting == 0
        await queued(owner, Text(BOB, "still here"))


async def test_those_who_say_nothing_keep_nobody_else_waiting_for_ever(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db") as (_, _, owner):
        idle = [await unix_socket.connect(socket_path(tmp_path / "phone.db")) for _ in range(MOST_AT_A_TIME)]
        for stream in idle:
            assert stream is not None
            await stream.aclose()
        await queued(owner, Text(BOB, "now"))


async def test_the_same_request_again_changes_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "phone.db"
    async with phone(server, path) as (client, peer, owner):
        for _ in range(2):
            assert (await owner.queue(Text(BOB, "one"), Text(BOB, "two"), ids=[ONE, TWO])).ids == [ONE, TWO]
        assert client.waiting == 2
        async with owner.sending(Text(BOB, "one"), ONE) as (_, accepted):
            assert await peer.receive() == (Text(BOB, "one"), ONE)
            await peer.send(Accepted(7), ONE)
            assert await accepted() == Accepted(7)
        assert await peer.receive() == (Text(BOB, "two"), TWO)
        await peer.send(Error("user_offline"), TWO)
        assert [(type(event), event.id) for event in [await anext(client) for _ in range(4)]] == [  # type: ignore[union-attr]  # all have one
            (Queued, ONE),
            (Queued, TWO),
            (Settled, ONE),
            (Settled, TWO),
        ]
    async with phone(server, path) as (client, _, owner):
        async with owner.sending(Text(BOB, "one"), ONE) as (_, accepted):
            assert await accepted() == Accepted(7, duplicate=True)
        async with owner.sending(Text(BOB, "two"), TWO) as (_, accepted):
            with pytest.raises(Refused, match="user_offline"):
                await accepted()
        assert client.waiting == 0
        assert [entry.state for entry in await client.history(BOB, 9)] == ["accepted", "refused"]


async def test_a_request_that_comes_again_waits_for_what_an_earlier_program_left(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "phone.db"
    async with phone(server, path) as (_, peer, owner):
        await owner.queue(Text(BOB, "one"), ids=[ONE])
        await peer.receive()
    async with phone(server, path) as (client, peer, owner):
        assert await peer.receive() == (Text(BOB, "one"), ONE)
        async with owner.sending(Text(BOB, "one"), ONE) as (stored, accepted):
            assert (stored.ids, stored.waiting) == ([ONE], 1)
            await peer.send(Accepted(7), ONE)
            assert await accepted() == Accepted(7)
        assert [entry.state for entry in await client.history(BOB, 9)] == ["accepted"]


# --- a program that ends in the middle of it ------------------------------------------------------------------------


async def test_a_text_that_was_kept_is_not_kept_again_where_the_other_program_ends_before_the_answer(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = default_store_path(OWNER)
    outcome: list[tuple[Stored, Accepted | None]] = []

    async def compose(_: Client | DeviceOwner) -> Outgoing:
        await trio.lowlevel.checkpoint()
        return Outgoing(Text(BOB, "hello"))

    async def send() -> None:
        outcome.append(await send_as_device(ADDRESS, _Keyless(tmp_path / "alice.key", ALICE), PHONE, compose))

    async with trio.open_nursery() as nursery, phone(server, path) as (_, peer, _):
        nursery.start_soon(send)
        await peer.receive()
    ((_, accepted),) = outcome
    assert accepted is None
    async with open_device(ADDRESS, ALICE, PHONE, store=path, dial=server.dial) as client:
        assert client.waiting == 1


async def test_a_program_that_is_killed_between_its_commit_and_its_reply_doubles_nothing(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(library, "open_device", partial(open_device, dial=server.dial))
    store = LocalStore(default_store_path(OWNER))
    outcome: list[tuple[Stored, Accepted | None]] = []
    composed: list[Client | DeviceOwner] = []

    async def compose(by: Client | DeviceOwner) -> Outgoing:
        await trio.lowlevel.checkpoint()
        composed.append(by)
        return Outgoing(Text(BOB, "hello"))

    async def send() -> None:
        outcome.append(await send_as_device(ADDRESS, _Keyless(tmp_path / "alice.key", ALICE), PHONE, compose))

    async with trio.open_nursery() as nursery:
        async with store.opened(OWNER, StoreKey.of(ALICE)):
            listener = unix_socket.listen(socket_path(store.path))
            nursery.start_soon(send)
            async with await listener.accept() as stream:
                line, _ = await unix_socket.read_line(stream, 10_000)
                keep = decode_line(line)
                assert isinstance(keep, Keep)
                message, message_id, _ = decode_client(keep.frames[0])
                assert isinstance(message, Text)
                assert message_id is not None
                await store.apply([Queue(message_id, message, 1)])
            await listener.aclose()
            socket_path(store.path).unlink()
        peer = await server.accept()
        assert await peer.receive() == (message, message_id)
        await peer.send(Accepted(7), message_id)
    assert outcome == [(Stored([message_id], 0, ""), Accepted(7))]
    assert len(composed) == 1
    entries = read_history(store.path, OWNER, StoreKey.of(ALICE), BOB, 9)
    assert [(entry.id, entry.state) for entry in entries] == [(message_id, "accepted")]


async def test_a_text_that_is_kept_while_the_program_ends_is_said_to_be_kept(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "phone.db"
    gate, is_waiting = trio.Event(), trio.Event()
    gate.set()
    looks = 1
    """Before the commit, which waits at the gate, the file is asked whether it knows the message."""

    async def behind_the_gate(work: Callable[[], T], /) -> T:
        nonlocal looks
        result: list[T] = []
        with trio.CancelScope(shield=True):
            if not gate.is_set() and looks:
                looks -= 1
            elif not gate.is_set():
                is_waiting.set()
                await gate.wait()
            result.append(await trio.to_thread.run_sync(work))
        return result[0]

    async with trio.open_nursery() as nursery:
        store = LocalStore(path, behind_the_gate)
        async with open_device(ADDRESS, ALICE, PHONE, store=store, backoff=SOON, dial=server.dial) as client:
            await server.accept()
            assert await anext(client) == Connected()
            await trio.testing.wait_all_tasks_blocked(0.01)
            gate = trio.Event()
            nursery.start_soon(queued, DeviceOwner(ADDRESS, path), Text(BOB, "hello"))
            await is_waiting.wait()
            nursery.start_soon(_open_later, gate)
    async with open_device(ADDRESS, ALICE, PHONE, store=path, dial=server.dial) as client:
        assert client.waiting == 1


async def _open_later(release: trio.Event) -> None:
    with trio.CancelScope(shield=True):  # whatever else fails, nobody is to wait there for ever
        await trio.testing.wait_all_tasks_blocked(0.01)
        release.set()


# --- who has the device ----------------------------------------------------------------------------------------------


async def test_the_second_program_learns_who_the_first_is(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db"):
        with pytest.raises(DeviceInUse) as caught:
            async with open_device(ADDRESS, ALICE, PHONE, store=tmp_path / "phone.db", dial=server.dial):
                pytest.fail("there should be no client")
        assert (caught.value.pid, caught.value.path) == (os.getpid(), tmp_path / "phone.db")
    with pytest.raises(OwnerGone):
        await queued(DeviceOwner(ADDRESS, tmp_path / "phone.db"), Text(BOB, "hello"))
    assert not socket_path(tmp_path / "phone.db").exists()


async def test_a_socket_that_a_dead_program_left_is_replaced(server: ScriptedServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(tmp_path / "phone.db")))
    with pytest.raises(OwnerGone):
        await queued(DeviceOwner(ADDRESS, tmp_path / "phone.db"), Text(BOB, "hello"))
    async with phone(server, tmp_path / "phone.db") as (client, _, owner):
        await queued(owner, Text(BOB, "hello"))
        assert client.waiting == 1


async def test_a_path_of_any_length(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40) / "phone.db"
    async with phone(server, path) as (client, _, owner):
        await queued(owner, Text(BOB, "hello"))
        assert client.waiting == 1


async def test_the_socket_is_for_its_owner_alone(server: ScriptedServer, tmp_path: Path) -> None:
    async with phone(server, tmp_path / "phone.db"):
        assert socket_path(tmp_path / "phone.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o777])
async def test_where_others_can_write_there_is_no_socket(server: ScriptedServer, tmp_path: Path, mode: int) -> None:
    """They could put their own in its place."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    async with phone(server, shared / "phone.db") as (_, _, owner):
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(OwnerGone):
            await queued(owner, Text(BOB, "hello"))


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be somebody else")
async def test_another_user_is_not_listened_to_and_not_spoken_to(server: ScriptedServer, open_folder: Path) -> None:
    """Even where the socket's permissions would let them."""
    path = open_folder / "phone.db"
    async with phone(server, path) as (client, _, _):
        socket_path(path).chmod(0o666)
        assert await trio.to_thread.run_sync(_as_nobody, socket_path(path)) == b""
        assert client.waiting == 0


def _as_nobody(path: Path) -> bytes:
    """What another user is answered."""
    request = encode_line(Keep([encode(Text(BOB, "evil"), ONE).decode()], is_awaited=False))
    program = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(sys.stdin.buffer.read()); answer = s.recv(1000)\n"
        "except OSError: answer = b''\n"
        "os.write(1, answer)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(command, input=request, capture_output=True, timeout=20, check=True).stdout
