"""What is sent is all that there was to read, or nothing: also from where no size is known, or a wrong one."""

import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from ironwire.client import TransferFailed, sources, upload
from ironwire.client.connection.exchange import PIECE_BYTES
from ironwire.client.sources import regular_file
from tests.client.test_transfer import Http, contents, honest, serving

VERSION = Path("/proc/version")
"""A file of size 0 with something in it."""

SIZES = [1, PIECE_BYTES, PIECE_BYTES + 17]


def writing(path: Path, content: bytes) -> threading.Thread:
    """Somebody at the other end of a pipe, who comes when it is opened."""
    thread = threading.Thread(target=path.write_bytes, args=(content,))
    thread.start()
    return thread


@pytest.mark.parametrize("size", SIZES)
async def test_a_pipe_goes_up_as_a_file_does(tmp_path: Path, size: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    thread = writing(tmp_path / "pipe", contents(size))
    http = Http(honest)
    async with serving(http) as address:
        uploaded = await upload(address, tmp_path / "pipe")
    thread.join()
    ((head, body),) = http.requests
    assert f"content-length: {size}\r\n".encode() in head.lower() + b"\r\n"
    assert (body, uploaded.size) == (contents(size), size)


async def test_a_descriptor_is_read_to_its_end() -> None:
    reading, written = os.pipe()
    os.write(written, b"content")
    os.close(written)
    async with regular_file(reading) as path:
        assert path.read_bytes() == b"content"
        os.fstat(reading)
    assert not path.exists()
    os.close(reading)


@pytest.mark.skipif(not VERSION.exists(), reason="there is no /proc")
async def test_a_file_that_says_it_is_empty_is_looked_into(tmp_path: Path) -> None:
    async with regular_file(VERSION) as path:
        assert path.read_bytes() == VERSION.read_bytes()  # noqa: ASYNC240 - the kernel's memory
    (tmp_path / "empty").touch()
    async with regular_file(tmp_path / "empty") as path:
        assert path == tmp_path / "empty"


async def test_a_stream_that_brings_nothing_is_refused() -> None:
    with pytest.raises(TransferFailed, match="/dev/null is empty or closed"):
        async with regular_file(Path("/dev/null")):
            pass
    only_written = os.open(os.devnull, os.O_WRONLY)
    with pytest.raises(TransferFailed, match="cannot read"):
        async with regular_file(only_written):
            pass
    os.close(only_written)


async def test_a_stream_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BYTES", 3 * PIECE_BYTES)
    with pytest.raises(TransferFailed, match="/dev/zero does not end"):
        async with regular_file(Path("/dev/zero")):
            pass


async def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "nothing", "No such file")):
        with pytest.raises(TransferFailed, match=f"cannot read {path}: {reason}"):
            async with regular_file(path):
                pass


async def test_a_folder_for_copies_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(TransferFailed, match="cannot be copied to"):
        async with regular_file(Path("/dev/zero")):
            pass


async def test_who_waits_for_a_pipe_can_leave() -> None:
    reading, written = os.pipe()

    async def wait() -> None:
        async with regular_file(reading):
            raise AssertionError("nothing has come")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    os.close(written)  # lets the thread go that was left behind
    os.close(reading)
