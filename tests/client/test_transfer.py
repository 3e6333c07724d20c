"""Files go up and down whole and unchanged, or there is an exception and nothing left behind."""

import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest
import trio

from ironwire.client import ConnectionFailed, ServerAddress, TransferFailed, download, upload
from ironwire.client.connection import exchange
from ironwire.client.connection.exchange import PIECE_BYTES

URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
SIZES = [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17]


class Http:
    """What the scripted server saw, and how it answers."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.requests: list[tuple[bytes, bytes]] = []
        self.reads_body = True
        self.hangs_up = True


@asynccontextmanager
async def serving(http: Http) -> AsyncIterator[ServerAddress]:
    """One answer for each connection, on a loopback port."""

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while http.reads_body and len(body) < length:
            body += await stream.receive_some()
        http.requests.append((head, body))
        await stream.send_all(http.answer(body))
        if not http.hangs_up:
            await trio.sleep_forever()
        if not http.reads_body:
            # As servers do that refuse early: closing over unread bytes would reset the connection under the answer.
            stream.socket.shutdown(socket.SHUT_WR)
            while await stream.receive_some():
                pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield ServerAddress.parse(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        nursery.cancel_scope.cancel()


def ok(body: bytes, **headers: str) -> bytes:
    return answer("200 OK", body, **headers)


def answer(status: str, body: bytes, **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), "Connection": "close"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def honest(body: bytes) -> bytes:
    return ok(orjson.dumps({"url": URL, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}))


def contents(size: int) -> bytes:
    return hashlib.shake_128(b"contents").digest(size)


# --- up --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_an_upload_arrives_unchanged(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(contents(size))
    seen: list[tuple[int, int]] = []
    http = Http(honest)
    async with serving(http) as address:
        uploaded = await upload(address, source, lambda done, total: seen.append((done, total)))
    ((head, body),) = http.requests
    assert head.startswith(b"POST /upload HTTP/1.1")
    assert body == contents(size)
    assert (uploaded.url, uploaded.size) == (URL, size)
    assert uploaded.sha256 == hashlib.sha256(contents(size)).hexdigest()
    assert seen == [*((done, size) for done in range(0, size, PIECE_BYTES)), (size, size)]


async def test_a_seed_server_answers_with_the_url_alone(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    async with serving(Http(lambda _: ok(orjson.dumps({"url": URL})))) as address:
        assert (await upload(address, tmp_path / "source")).url == URL


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (ok(orjson.dumps({"url": URL, "size": 4})), "something else than was sent"),
        (ok(orjson.dumps({"url": URL, "sha256": "0" * 64})), "something else than was sent"),
        (ok(orjson.dumps({"url": "https://elsewhere.test/x"})), "not of this protocol"),
        (ok(b"{}"), "not of this protocol"),
        (ok(b"[]"), "not of this protocol"),
        (ok(b"hello"), "not of this protocol"),
        (ok(b"x" * 20_000), "longer than any"),
        (answer("507 Full", b'{"error":"storage_full","detail":"no room"}'), r"no room \(HTTP status 507\)"),
        (answer("500 Oh", b"<html>"), r"the server refused \(HTTP status 500\)"),
        (answer("302 Found", b"", Location="http://127.0.0.1:1/"), "HTTP status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "the server broke off"),
        (b"", "the server broke off"),
        (b"SSH-2.0\r\n\r\n", "the server broke off"),
    ],
)
async def test_an_upload_that_did_not_happen(tmp_path: Path, response: bytes, says: str) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    async with serving(Http(lambda _: response)) as address:
        with pytest.raises(TransferFailed, match=says):
            await upload(address, tmp_path / "source")


async def test_a_refusal_in_the_middle_of_the_body_is_heard(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(contents(8 * PIECE_BYTES))
    http = Http(lambda _: answer("413 Too large", b'{"detail":"30 MiB at most"}'))
    http.reads_body = False
    async with serving(http) as address:
        with pytest.raises(TransferFailed, match="30 MiB at most") as caught:
            await upload(address, tmp_path / "source")
    assert caught.value.status == 413


async def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(contents(3 * PIECE_BYTES))

    def shrink(done: int, total: int) -> None:
        if done:
            os.truncate(source, PIECE_BYTES)

    async with serving(Http(honest)) as address:
        with pytest.raises(TransferFailed, match="became shorter"):
            await upload(address, source, shrink)


async def test_a_file_that_grows_while_it_is_sent_goes_up_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"before")

    def grow(done: int, total: int) -> None:
        source.write_bytes(b"before and after")

    async with serving(Http(honest)) as address:
        assert (await upload(address, source, grow)).sha256 == hashlib.sha256(b"before").hexdigest()


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="cannot read"):
        await upload(ServerAddress.parse("localhost:1"), tmp_path / "missing")


async def test_nobody_to_upload_to(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ConnectionFailed, match="Is the server running"):
        await upload(ServerAddress.parse(f"http://127.0.0.1:{port}"), tmp_path / "source")


# --- down ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_download_arrives_unchanged(tmp_path: Path, size: int) -> None:
    seen: list[tuple[int, int]] = []
    http = Http(lambda _: ok(contents(size)))
    sha256 = hashlib.sha256(contents(size)).hexdigest()
    target = tmp_path / "target"
    async with serving(http) as address:
        downloaded = await download(
            address,
            URL,
            target,
            lambda done, total: seen.append((done, total)),
            expected_size=size,
            expected_sha256=sha256,
        )
    assert http.requests[0][0].startswith(f"GET {URL} HTTP/1.1".encode())
    assert target.read_bytes() == contents(size)
    assert (downloaded.size, downloaded.sha256) == (size, sha256)
    assert os.listdir(tmp_path) == ["target"]
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (
            answer("404 Not found", b'{"error":"not_found","detail":"no such file"}'),
            r"no such file \(HTTP status 404\)",
        ),
        (answer("206 Partial", b"ab"), "HTTP status 206"),
        (ok(b"abcd"), "4 bytes instead of 3"),
        (ok(b"abd"), "SHA-256"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", "how large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "the server broke off"),
    ],
)
async def test_a_download_that_did_not_happen_leaves_nothing(tmp_path: Path, response: bytes, says: str) -> None:
    async with serving(Http(lambda _: response)) as address:
        with pytest.raises(TransferFailed, match=says):
            await download(
                address,
                URL,
                tmp_path / "target",
                expected_size=3,
                expected_sha256=hashlib.sha256(b"abc").hexdigest(),
            )
    assert os.listdir(tmp_path) == []


async def test_a_connection_that_stays_open_after_the_file_is_not_waited_for(tmp_path: Path) -> None:
    http = Http(lambda _: ok(b"abc"))
    http.hangs_up = False
    async with serving(http) as address:
        with trio.fail_after(5):
            assert (await download(address, URL, tmp_path / "target")).size == 3


async def test_a_download_replaces_nothing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    async with serving(Http(lambda _: ok(b"theirs"))) as address:
        with pytest.raises(TransferFailed, match="exists already"):
            await download(address, URL, target)
    assert target.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["target"]


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    async with serving(Http(lambda _: ok(b"abc"))) as address:
        with pytest.raises(TransferFailed, match="cannot write"):
            await download(address, URL, tmp_path / "missing" / "target")


@pytest.mark.parametrize("url", ["https://elsewhere.test/x", "/media/../../etc/passwd", "//elsewhere.test" + URL, ""])
async def test_only_files_of_the_server_are_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferFailed, match="not a file of the server"):
        await download(ServerAddress.parse("localhost:1"), url, tmp_path / "target")


async def test_a_transfer_in_which_nothing_moves_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "STALL_SECONDS", 0.05)
    http = Http(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
    http.hangs_up = False
    async with serving(http) as address:
        with pytest.raises(TransferFailed, match="nothing moved"):
            await download(address, URL, tmp_path / "target")
    assert os.listdir(tmp_path) == []


async def test_a_download_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    http = Http(lambda _: ok(contents(2 * PIECE_BYTES))[:-1])
    http.hangs_up = False
    async with serving(http) as address:
        with trio.CancelScope() as scope:

            def cancel(done: int, total: int) -> None:
                if done:
                    scope.cancel()

            await download(address, URL, tmp_path / "target", cancel)
        assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []
