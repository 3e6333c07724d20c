"""`ironwire top`: a running server at a glance, from what its parts say of themselves (`statistics()`)."""

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import attrs
import click
import trio
from attrs import frozen
from rich.console import Group
from rich.filesize import decimal
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.operator.serverside import data_option, loaded_settings
from ironwire.cli.options import SecondsRange, config_option, json_option
from ironwire.cli.terminal import counted, out
from ironwire.handlers.operator import Answer, Observe
from ironwire.server.operator.admin import ask

ANSWER_SECONDS = 10.0
"""How long a server may take to answer."""


@frozen
class Overview:
    """The activity of a server between two observations, and its state at the second."""

    version: str
    uptime_seconds: float
    is_draining: bool
    is_failing: bool
    clock_leap_seconds: float
    """0 if the server believes its clock."""
    connections: int
    sessions: int
    clients: int
    frames_in_per_second: float
    frames_out_per_second: float
    accepted_per_second: float
    refused_per_second: float
    operations_waiting: int
    batches_per_second: float
    batch_operations: float
    """Operations in a batch, on average."""
    commit_ms: float
    """The duration of a commit, on average."""
    mailboxes: int
    waiting_envelopes: int
    waiting_bytes: int
    blobs: int
    blob_bytes: int
    cpu_percent: float
    """Share of one processor."""
    resident_bytes: int
    open_files: int
    open_files_most: int

    @classmethod
    def between(cls, before: Answer, after: Answer, seconds: float, unix_seconds: float) -> "Overview":
        """From two observations `seconds` apart, the later of them made at `unix_seconds`."""
        then, now = before["parts"], after["parts"]

        def grown(part: str, name: str) -> float:
            return float(now[part][name] - then[part][name])

        def mean(part: str, name: str) -> float:
            """The mean of the values that a distribution has counted meanwhile."""
            count = now[part][name]["count"] - then[part][name]["count"]
            total: float = now[part][name]["sum"] - then[part][name]["sum"]
            return total / count if count else 0.0

        store, process, sessions = now["store"], now["process"], now["sessions"]
        refused = grown("delivery", "refused_total") + grown("delivery", "undeliverable_total")
        return cls(
            version=after["version"],
            uptime_seconds=unix_seconds - process["start_time_seconds"],
            is_draining=sessions["is_draining"],
            is_failing=store["is_failing"],
            clock_leap_seconds=now["clock"]["leap_seconds"],
            connections=now["guard"]["connections_open"],
            sessions=now["hub"]["sessions"],
            clients=now["hub"]["clients"],
            frames_in_per_second=grown("sessions", "received_total") / seconds,
            frames_out_per_second=grown("sessions", "sent_total") / seconds,
            accepted_per_second=grown("delivery", "accepted_total") / seconds,
            refused_per_second=refused / seconds,
            operations_waiting=now["delivery"]["operations_waiting"],
            batches_per_second=grown("store", "batches_total") / seconds,
            batch_operations=mean("delivery", "batch_operations"),
            commit_ms=1000 * mean("store", "commit_seconds"),
            mailboxes=store["mailboxes"],
            waiting_envelopes=store["waiting_envelopes"],
            waiting_bytes=store["waiting_bytes"],
            blobs=now["blobs"]["stored"],
            blob_bytes=now["blobs"]["stored_bytes"],
            cpu_percent=100 * grown("process", "cpu_seconds_total") / seconds,
            resident_bytes=process["resident_bytes"],
            open_files=process["open_files"],
            open_files_most=process["open_files_most"],
        )


@click.command()
@click.option("--once", is_flag=True, help="Look once and leave.")
@click.option(
    "--every",
    "every_seconds",
    metavar="SECONDS",
    type=SecondsRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="How long to look before saying how much went on.",
)
@data_option
@config_option
@json_option
def top(every_seconds: float, data: Path | None, config_file: Path | None, *, once: bool, as_json: bool) -> None:
    """Watch a running server: who is here, what comes and goes, and what it costs. Ctrl-C ends it.

    With --json, each look is one line.
    """
    folder = loaded_settings(config_file, data).data
    if once:
        trio.run(_look_once, folder, every_seconds, as_json)
    else:
        trio.run(_watch, folder, every_seconds, as_json)


async def _look_once(folder: Path, every_seconds: float, as_json: bool) -> None:
    before, began = await _observe(folder), trio.current_time()
    await trio.sleep(every_seconds)
    _, overview = await _look(folder, before, began)
    _show(overview, as_json=as_json)


async def _watch(folder: Path, every_seconds: float, as_json: bool) -> None:
    before, began = await _observe(folder), trio.current_time()
    with Live(console=out(), screen=not as_json and out().is_terminal, auto_refresh=False) as live:
        while True:
            await trio.sleep(every_seconds)
            before, overview = await _look(folder, before, began)
            began = trio.current_time()
            if as_json:
                _show(overview, as_json=True)
            else:
                live.update(_table(overview), refresh=True)


async def _look(folder: Path, before: Answer, began: float) -> tuple[Answer, Overview]:
    after = await _observe(folder)
    return after, Overview.between(before, after, trio.current_time() - began, time.time())


async def _observe(folder: Path) -> Answer:
    answer = None
    with trio.move_on_after(ANSWER_SECONDS) as limit:
        answer = await ask(folder, Observe())
    if limit.cancelled_caught:
        raise Failure(ExitCode.UNREACHABLE, f"the server did not answer within {ANSWER_SECONDS:.0f} s")
    if answer is None:
        raise Failure(ExitCode.UNREACHABLE, f"no server serves {folder}: name another folder with --data or --config")
    return answer


def _show(overview: Overview, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(attrs.asdict(overview)))
    else:
        out().print(_table(overview))


def _table(overview: Overview) -> Group:
    state = ("stopping", "bold magenta") if overview.is_draining else ("running", "bold bright_blue")
    if overview.clock_leap_seconds:
        state = ("the clock has leapt, and nothing expires: `ironwire admin clock`", "bold magenta")
    if overview.is_failing:
        state = ("the store cannot write: see the log", "bold red")
    uptime = timedelta(seconds=round(overview.uptime_seconds))
    head = Text.assemble(("IronWire ", "bold"), overview.version, "  ", state, f"  for {uptime}")
    table = Table(Column(no_wrap=True), Column(), box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, facts in _facts(overview).items():
        table.add_row(Text(name, "bold"), ", ".join(facts))
    return Group(head, Text(), table)


def _facts(overview: Overview) -> Mapping[str, tuple[str, ...]]:
    return {
        "here": (
            counted(overview.connections, "connection"),
            counted(overview.sessions, "session"),
            counted(overview.clients, "client"),
        ),
        "frames": (f"{overview.frames_in_per_second:,.0f}/s in", f"{overview.frames_out_per_second:,.0f}/s out"),
        "envelopes": (
            f"{overview.accepted_per_second:,.0f}/s accepted",
            f"{overview.refused_per_second:,.0f}/s refused",
            f"{counted(overview.operations_waiting, 'operation')} to be stored",
        ),
        "commits": (
            f"{overview.batches_per_second:,.0f}/s",
            f"{overview.batch_operations:,.1f} operations each",
            f"{overview.commit_ms:.1f} ms each",
        ),
        "mailboxes": (
            f"{overview.mailboxes:,}",
            f"{counted(overview.waiting_envelopes, 'envelope')} waiting",
            decimal(overview.waiting_bytes),
        ),
        "files": (f"{overview.blobs:,}", decimal(overview.blob_bytes)),
        "process": (
            f"{overview.cpu_percent:.0f} % CPU",
            f"{decimal(overview.resident_bytes)} memory",
            f"{overview.open_files:,} of {overview.open_files_most:,} descriptors",
        ),
    }
