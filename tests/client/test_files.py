"""A file appears whole or not at all, and never in the place of another."""

import os
from pathlib import Path

import pytest

from ironwire.client.files import NewFile


def test_a_file_appears_only_when_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with NewFile.create(path, 0o600) as file:
        file.write(b"one ")
        file.write(b"two")
        assert not path.exists()
        file.keep()
        assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    with NewFile.create(tmp_path / "file", 0o600) as file:
        file.write(b"half")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_what_came_to_be_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool) -> None:
    if not has_hard_links:
        monkeypatch.setattr(os, "link", _unsupported)
    path = tmp_path / "file"
    with NewFile.create(path, 0o600) as file:
        file.write(b"new")
        path.write_bytes(b"old")
        with pytest.raises(FileExistsError):
            file.keep()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _unsupported)
    with NewFile.create(tmp_path / "file", 0o600) as file:
        file.write(b"new")
        file.keep()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def _unsupported(*_: object) -> None:
    raise PermissionError("no hard links here")
