"""`python -m fuzz SECONDS [--campaign NAME] [--seed N]`: run the campaigns in turn, and say what they found.

Exit status 1 means that there are new findings, whose inputs are then in `fuzz/findings/`, or that an engine died.
"""

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer

import click
from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fuzz.campaigns import CAMPAIGNS
from fuzz.engine import ENGINES, STUCK_SECONDS, Report

ROOT = Path(__file__).parent.parent
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where engines write what nobody keeps: in memory, where there is such a place, because a disk has nothing to add."""

_STATUS_SECONDS = 10.0
_START_SECONDS = 120.0
"""How long an engine may take on a busy machine until it has instrumented the code and replayed the corpus."""
_TAIL_CHARACTERS = 2000

console = Console(highlight=False)


@frozen
class Outcome:
    """One engine's turn at one campaign."""

    campaign: str
    engine: str
    report: Report
    death: str = field(default="")
    """Why the engine's process ended before its time; empty if it did not."""


@click.command()
@click.argument("seconds", type=click.FloatRange(min=0, min_open=True))
@click.option(
    "--campaign", "names", type=click.Choice(list(CAMPAIGNS)), multiple=True, help="Repeatable; default: all."
)
@click.option("--seed", type=int, help="Where the engines' randomness begins; default: anywhere.")
def main(seconds: float, names: tuple[str, ...], seed: int | None) -> None:
    """Feed the parsers and the whole server with what nobody would write, for SECONDS in all."""
    seed = random.randrange(1 << 31) if seed is None else seed
    engines = [engine for engine in ENGINES if importlib.util.find_spec(engine) is not None]
    if "atheris" not in engines:
        console.print("atheris is not installed: no coverage guides this run.", style="yellow")
    turns = [(name, engine) for name in names or CAMPAIGNS for engine in engines]
    console.print(f"{len(turns)} turns of {seconds / len(turns):.3g} s, seed {seed}")
    outcomes = [run(name, engine, seconds / len(turns), seed) for name, engine in turns]
    console.print(table(outcomes))
    for outcome in outcomes:
        for path, error in outcome.report.findings:
            console.print(
                f"[red]{outcome.campaign}[/]: {escape(error)}\n  {Path(path).relative_to(ROOT)}", soft_wrap=True
            )
        if outcome.death:
            console.print(f"[red]{outcome.campaign}, {outcome.engine}[/] died: {escape(outcome.death)}", soft_wrap=True)
    sys.exit(any(outcome.report.findings or outcome.death for outcome in outcomes))


def run(name: str, engine: str, seconds: float, seed: int) -> Outcome:
    """Give one engine its turn, and show how it goes."""
    report = Report(0, 0.0, 0, [])
    command = [sys.executable, "-m", "fuzz.engine", name, engine, str(seconds), str(seed)]
    with (
        TemporaryDirectory(prefix="ironwire-fuzz-", dir=SCRATCH) as scratch,
        TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env={**os.environ, "TMPDIR": scratch}
        ) as process,
    ):
        # It ends by itself, unless an input keeps it: then this does.
        killer = Timer(_START_SECONDS + seconds + 3 * STUCK_SECONDS, process.kill)
        killer.start()
        shown_at = 0.0
        for report in reports(process):
            if console.is_terminal or report.seconds - shown_at >= _STATUS_SECONDS:
                shown_at = report.seconds
                console.print(
                    status_line(name, engine, report), end="\r" if console.is_terminal else "\n", soft_wrap=True
                )
        killer.cancel()
        status = process.wait()
        console.print(status_line(name, engine, report), soft_wrap=True)
        errors.seek(0)
        last_words = errors.read().decode(errors="replace")[-_TAIL_CHARACTERS:]
    return Outcome(name, engine, report, f"exit status {status}\n{last_words}" if status else "")


def reports(process: "subprocess.Popen[str]") -> Iterator[Report]:
    """What the engine says, as it says it; libFuzzer's own lines are passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield Report(**json.loads(line))


def status_line(name: str, engine: str, report: Report) -> str:
    return (
        f"{name:8} {engine:10} {report.executions:8,} executions {rate(report):8,.0f}/s"
        f" {report.corpus:5} inputs kept {len(report.findings):3} new findings"
    )


def rate(report: Report) -> float:
    return report.executions / report.seconds if report.seconds else 0.0


def table(outcomes: list[Outcome]) -> Table:
    summary = Table(title="What nobody would write")
    for heading in ("campaign", "engine"):
        summary.add_column(heading)
    for heading in ("executions", "per second", "inputs kept", "new findings"):
        summary.add_column(heading, justify="right")
    for each in outcomes:
        numbers = (f"{each.report.executions:,}", f"{rate(each.report):,.0f}", str(each.report.corpus))
        found = "died" if each.death else str(len(each.report.findings))
        summary.add_row(each.campaign, each.engine, *numbers, found)
    return summary


if __name__ == "__main__":
    main()
