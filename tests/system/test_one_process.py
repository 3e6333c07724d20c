"""One process serves one data folder: a second one says so in one line, and its exit code does not say all is well."""

import re
import subprocess
from pathlib import Path
from signal import SIGUSR1

import pytest

from tests.system.conftest import IRONWIRE_SERVE, hypercorn_command, running_server
from tests.system.processes import environment

SECONDS = 30
IN_USE = re.compile(r"is in use by another IronWire process \(pid (\d+)\): run one worker, or give each its own data")


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, which has to end by itself."""
    env = environment(folder, **variables)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_a_second_serve_says_in_one_line_who_has_the_folder(tmp_path: Path) -> None:
    with running_server(IRONWIRE_SERVE, tmp_path) as first:
        done = run(IRONWIRE_SERVE, tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    found = IN_USE.search(line)
    assert found is not None
    assert int(found[1]) == first.process_group
    assert done.returncode == 2


@pytest.mark.parametrize("command", [IRONWIRE_SERVE, [*hypercorn_command("ironwire.asgi:app"), "--workers", "0"]])
def test_a_second_process_is_refused(tmp_path: Path, command: list[str]) -> None:
    with running_server(hypercorn_command("ironwire.asgi:app"), tmp_path) as first:
        done = run(command, tmp_path)
        assert not first.has_exited()
    assert len(IN_USE.findall(done.stderr)) == 1, done.stderr
    assert "listens on" not in done.stdout
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_second_hypercorn_is_refused_and_its_parent_does_not_say_that_all_is_well(tmp_path: Path) -> None:
    with running_server(hypercorn_command("ironwire.asgi:app"), tmp_path) as first:
        done = run(hypercorn_command("ironwire.asgi:app"), tmp_path)
        assert not first.has_exited()
    assert len(IN_USE.findall(done.stderr)) == 1, done.stderr
    assert done.returncode == -SIGUSR1
    assert "Traceback" not in done.stderr


def test_two_workers_are_refused(tmp_path: Path) -> None:
    done = run([*hypercorn_command("ironwire.asgi:app"), "--workers", "2"], tmp_path)
    assert IN_USE.search(done.stderr)
    assert done.returncode == -SIGUSR1
    assert "Traceback" not in done.stderr
    # The worker that had the folder has left it: the next server finds it free.
    with running_server(hypercorn_command("ironwire.asgi:app"), tmp_path):
        pass


def test_a_setting_that_cannot_be_used_ends_hypercorn(tmp_path: Path) -> None:
    done = run(hypercorn_command("ironwire.asgi:app"), tmp_path, IRONWIRE_LOG_LEVEL="loud")
    assert "log.level = 'loud' cannot be used: must be one of debug, info, warning, error" in done.stderr
    assert done.returncode == -SIGUSR1
    assert "Traceback" not in done.stderr
