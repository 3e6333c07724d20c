"""Where the microseconds of a text go: what py-spy saw of the event loop's thread, sorted by stage.

A sample counts for the innermost function that begins a stage. Shares become microseconds through the CPU time that
the server used for each text. py-spy stops the server for every sample, so the rates of this run are no figures.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import cache
from bench.contenders import Contender
from bench.figures import Figure
from bench.flows import DEVICE, lanes
from bench.load import drive
from bench.scale import Scale

SAMPLES_PER_SECOND = 400
STOP_SECONDS = 20.0

PATHS = {"live, w=1": (False, 1), "live, w=100": (False, 100), "durable, w=10": (True, 10)}
"""By name: whether it is durable, and its window."""

_WAIT = "Trio: waiting, scheduling"
_STAGES = (
    (_WAIT, r"\(trio/_core/"),
    ("frames: parse", r"FrameParser\.feed "),
    ("JSON: decode and check", r"^decode_client "),
    ("JSON: encode", r"^(encode|encode_payload|frame_text) \(ironwire/wire/codec"),
    ("frames: build", r"^encode_batch "),
    ("socket: read", r"Transport\.(receive|_read\w*) "),
    ("socket: write", r"Transport\.(write|send|_write\w*) |^write_at_once "),
    ("store: statements", r"\(ironwire/store/"),
    ("route: delivery, mailbox, outbox", r"\(ironwire/(hub|protocol)/"),
    ("session", r"\(ironwire/server/session"),
)
"""From the inside out, the first stage one of whose functions is on the stack."""

_OTHER = "everything else"
_THREADS = "other threads: COMMIT"


class NoSamples(Exception):
    """py-spy could not look into the server; the message is its own."""


def paths(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Microseconds by stage, for each of `PATHS`."""
    for path, (is_durable, window) in PATHS.items():
        with (
            TemporaryDirectory() as folder,
            contender.running() as server,
            lanes(server, scale.pairs, DEVICE if is_durable else None) as pairs,
        ):
            raw = Path(folder) / "raw"
            py_spy = _sample(server.busiest_pid(), scale.profile_seconds, raw)
            loop_before, all_before = server.loop_seconds(), server.cpu_seconds()
            flow = drive(
                server, pairs, is_durable=is_durable, window=window, warm_seconds=0, seconds=scale.profile_seconds + 1
            )
            loop_share = (server.loop_seconds() - loop_before) / (server.cpu_seconds() - all_before)
            stages = _count(py_spy, raw)
        loop_us = flow.server_us * loop_share
        samples = sum(stages.values())
        for stage in [name for name, _ in _STAGES] + [_OTHER]:
            share = stages[stage] / samples
            yield Figure("profile", stage, path, loop_us * share, {"percent": 100 * share * loop_share})
        yield Figure("profile", _THREADS, path, flow.server_us - loop_us, {"percent": 100 * (1 - loop_share)})


def stage_of(stack: str) -> str | None:
    """The stage of one of py-spy's raw stacks, outermost function first; None for a thread that is not the loop's."""
    functions = stack.split(";")
    if any("_bootstrap (threading" in function for function in functions[:1]):
        return None
    for function in reversed(functions):
        for stage, pattern in _STAGES:
            if re.search(pattern, function):
                return stage
    return _OTHER


def _sample(pid: int, seconds: float, raw: Path) -> "subprocess.Popen[str]":
    command = [cache.python_tool("py-spy"), "record", "--pid", str(pid), "--format", "raw", "--output", str(raw)]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(max(1, round(seconds)))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _count(py_spy: "subprocess.Popen[str]", raw: Path) -> Counter[str]:
    output, _ = py_spy.communicate(timeout=STOP_SECONDS)
    if py_spy.returncode or not raw.exists():
        raise NoSamples(f"py-spy has to be allowed to trace other processes (as root it is): {output.strip()}")
    stages: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        stage = stage_of(stack)
        if stage is not None:
            stages[stage] += int(samples)
    return stages
