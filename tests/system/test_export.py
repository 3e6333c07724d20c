"""`ironwire export` with a real server: the files come out with the messages."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.test_cli import make_user, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as (_, url):
        yield url


def test_messages_and_files_of_both_sides_come_out(tmp_path: Path, server: str) -> None:
    alice, bob = (make_user(tmp_path / name, server) for name in ("alice", "bob"))
    phone = ("--device", "phone")
    for user, other in ((alice, bob), (bob, alice)):
        assert user.run("chat", other.client, *phone).returncode == 0
    (alice.folder / "photo.txt").write_bytes(b"a photo, really")
    assert alice.run("send", bob.client, "look", "--file", "photo.txt", *phone).returncode == 0
    assert bob.run("send", alice.client, "<b>nice</b>", *phone).returncode == 0
    for user in (alice, bob):
        assert user.run("listen", "--count", "1", *phone).returncode == 0
        done = user.run("export", "out", *phone)
        assert (done.returncode, done.stdout) == (0, "out/index.html\n"), done.stderr
        out = user.folder / "out"
        assert (out / "files" / "photo.txt").read_bytes() == b"a photo, really"
        lines = [json.loads(line) for line in (out / "messages.jsonl").read_text().splitlines()]
        assert {line["type"]: line.get("path") for line in lines} == {"file": "files/photo.txt", "text": None}
        page = (out / "index.html").read_text()
        assert "&lt;b&gt;nice&lt;/b&gt;" in page
        assert 'href="files/photo.txt"' in page
        assert {path.stat().st_mode & 0o077 for path in [out, *out.rglob("*")]} == {0}


def test_a_file_that_is_gone_is_named(tmp_path: Path, server: str) -> None:
    alice = make_user(tmp_path / "alice", server)
    (alice.folder / "photo.txt").write_bytes(b"a photo, really")
    assert alice.run("send", alice.client, "--file", "photo.txt", "--device", "phone").returncode == 0
    for blob in (tmp_path / "data").rglob("*.bin"):
        blob.unlink()
    done = alice.run("export", "out", "--device", "phone")
    assert (done.returncode, done.stdout) == (5, "out/index.html\n")
    assert "1 file could not be fetched" in done.stderr
    assert [*(alice.folder / "out" / "files").iterdir()] == []
