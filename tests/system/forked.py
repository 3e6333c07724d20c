"""Runs `ironwire` many times without importing it anew: each job is a fork of a process that has everything loaded.

A job says what its standard streams are. They are made as the interpreter makes them at its start, so that the command
meets what it would meet in a process of its own, and the interpreter ends as it would.
"""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define

ROOT = Path(__file__).parents[2]
_SECONDS = 60


@define(eq=False)
class Ended:
    """How a command ended, and what it wrote to the streams that were there."""

    code: int
    stdout: str
    stderr: str


@define(eq=False)
class Forker:
    """The process that forks. Streams of a job: `closed`, `full`, `broken` (a pipe that nobody reads), else a file."""

    _process: subprocess.Popen[str]

    @classmethod
    def start(cls) -> "Forker":
        return cls(
            subprocess.Popen(
                [sys.executable, "-m", "tests.system.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )

    def run(self, arguments: tuple[bytes | str, ...], folder: Path, env: dict[str, str], **streams: str) -> Ended:
        job = {
            "arguments": [os.fsdecode(argument) for argument in arguments],
            "folder": str(folder),
            "env": env,
            "streams": streams,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        self._process.communicate()


def main() -> None:
    """Take jobs from standard input, one a line. Returns in every child too, whose command is run by then."""
    import ironwire.cli

    for module in pkgutil.walk_packages(ironwire.cli.__path__, "ironwire.cli."):
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(module.name)
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _become(job, out.fileno(), err.fileno())
                ironwire.cli.main()
                return
            _, status = os.waitpid(child, 0)
            written = [os.pread(file.fileno(), 1 << 20, 0).decode(errors="replace") for file in (out, err)]
        ended = {"code": os.waitstatus_to_exitcode(status), "stdout": written[0], "stderr": written[1]}
        print(json.dumps(ended), flush=True)


def _become(job: dict[str, Any], out: int, err: int) -> None:
    signal.alarm(_SECONDS)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = ["ironwire", *job["arguments"]]
    nothing = os.open(os.devnull, os.O_RDONLY)
    encoding = job["env"].get("PYTHONIOENCODING", "utf-8")
    made: list[Any] = []
    for descriptor, (name, usual) in enumerate({"stdin": nothing, "stdout": out, "stderr": err}.items()):
        match job["streams"].get(name):
            case "closed":
                os.close(descriptor)
                made.append(None)
                continue
            case "full":
                target = os.open("/dev/full", os.O_WRONLY)
            case "broken":
                reading, target = os.pipe()
                os.close(reading)
            case None:
                target = usual
            case path:
                target = os.open(path, os.O_RDONLY)
        os.dup2(target, descriptor)
        made.append(open(descriptor, "r" if descriptor == 0 else "w", encoding=encoding, closefd=False))  # noqa: SIM115 - for the command
    sys.stdin, sys.stdout, sys.stderr = made
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = made  # type: ignore[misc]  # as at the start of an interpreter


if __name__ == "__main__":
    main()
