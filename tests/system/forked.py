"""Runs the command `ironwire` without importing it anew: each is a fork of one process that has everything loaded.
So may be another program of the tests, with a module whose `main` it is.

A command has the arguments, the environment, the folder and the standard streams that it would have in a process of its
own, and it is one: it has a process id, takes signals, and can be killed. Two things differ. Nothing is imported, and
the interpreter ends once its threads, exit functions and streams have: to take a fork's modules apart would copy every
page that it shares, which takes ten times as long as most commands.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from attrs import define, field

ROOT = Path(__file__).parents[2]
STREAMS = ("stdin", "stdout", "stderr")
_REPORT = struct.Struct("i")
_MOST_JOB_BYTES = 128 * 1024


@define(eq=False)
class Forked:
    """A command that was forked, with those methods of `subprocess.Popen` that tests use."""

    pid: int
    _report: socket.socket
    stdin: TextIO | None = None
    """The other end of the command's standard input, where there is one."""
    stdout: TextIO | None = None
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: the command is still running.
        """
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            (self.returncode,) = _REPORT.unpack(self._report.recv(_REPORT.size))
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    arguments: Sequence[bytes | str],
    folder: Path,
    env: Mapping[str, str],
    streams: Sequence[int | None],
    *,
    leads_session: bool = False,
    program: str = "ironwire.cli",
) -> Forked:
    """Start `ironwire` with three standard streams, which stay the caller's to close; None is a closed one."""
    job = {
        "program": program,
        "arguments": [os.fsdecode(argument) for argument in arguments],
        "folder": str(folder),
        "env": dict(env),
        "streams": [number for number, stream in enumerate(streams) if stream is not None],
        "leads_session": leads_session,
    }
    ours, theirs = socket.socketpair()
    with theirs:
        descriptors = [stream for stream in streams if stream is not None]
        socket.send_fds(_zygote(), [json.dumps(job).encode()], [*descriptors, theirs.fileno()])
    (pid,) = _REPORT.unpack(ours.recv(_REPORT.size))
    return Forked(pid, ours)


@cache
def _zygote() -> socket.socket:
    """The process that forks, as the socket that it takes jobs from. It ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.system.forked", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return ours


def main() -> None:
    """Fork until nobody is left who asks; then again in every child, as the command that it is."""
    import hypercorn.trio.run  # noqa: F401  # a server imports it late

    import ironwire.cli

    for module in pkgutil.walk_packages(ironwire.cli.__path__, "ironwire.cli."):
        with suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # a child that collects garbage leaves alone what it shares
    job = _fork_on_demand(socket.socket(fileno=int(sys.argv[1])))
    if job is not None:
        _become(*job)
        _run(importlib.import_module(job[0]["program"]).main)


def _fork_on_demand(jobs: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Returns in every child, with its job and its streams; in the parent once nobody is left who asks."""
    reports: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(jobs, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not jobs:
                    selector.unregister(key.fd)
                    _report_end(key.fd, *reports.pop(key.fd))
                    continue
                message, descriptors, _, _ = socket.recv_fds(jobs, _MOST_JOB_BYTES, len(STREAMS) + 1)
                if not message:
                    for pid, _ in reports.values():
                        os.kill(pid, signal.SIGKILL)
                    return None
                *streams, report = descriptors
                pid = os.fork()
                if pid == 0:
                    for descriptor in (jobs.detach(), report, *(each for _, each in reports.values()), *reports):
                        os.close(descriptor)
                    return json.loads(message), streams
                for descriptor in streams:
                    os.close(descriptor)
                _write_report(report, pid)
                ending = os.pidfd_open(pid)
                reports[ending] = (pid, report)
                selector.register(ending, selectors.EVENT_READ)


def _report_end(ending: int, pid: int, report: int) -> None:
    _, status = os.waitpid(pid, 0)
    _write_report(report, os.waitstatus_to_exitcode(status))
    os.close(report)
    os.close(ending)


def _write_report(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # a test that has ended asks no more
        os.write(report, _REPORT.pack(number))


def _become(job: dict[str, Any], descriptors: list[int]) -> None:
    if job["leads_session"]:
        os.setsid()
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = ["ironwire", *job["arguments"]]
    given = dict(zip(job["streams"], descriptors, strict=True))
    for number, name in enumerate(STREAMS):
        stream = None
        if number in given:
            os.dup2(given[number], number)
            os.close(given[number])
            stream = _open(number, job["env"])
        else:
            os.close(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # as at the start of an interpreter


def _open(number: int, env: Mapping[str, str]) -> TextIO:
    """A standard stream as the interpreter opens it at its start."""
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    by_line = 1 if number == 2 or "PYTHONUNBUFFERED" in env else -1
    if number == 0:
        return open(number, encoding=encoding, closefd=False)
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w", by_line, encoding, errors, closefd=False)


def _run(command: Any) -> None:
    """Run the command and end as the interpreter does, but for its modules; that sees to any other exception itself."""
    code: Any = 0
    try:
        command()
    except SystemExit as error:
        code = error.code
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        code = 120  # what Python says of streams that cannot be flushed at the end
    os._exit(code or 0)


if __name__ == "__main__":
    main()
