"""`python -m bench [--quick] [--only live,durable] [--peers fastapi,ws] [--rounds 3] [--save]`.

Exit status 1 means that something could not be measured; a goal that is missed is for people to judge.
"""

import resource
import sys
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.markup import escape

from bench import arrivals, away, clients, depth, device, files, flows, mls, profile, report
from bench.cache import Missing
from bench.contenders import CONTENDERS, Contender, DidNotStart
from bench.crowd import Refused
from bench.figures import Figure, medians
from bench.goals import judge
from bench.load import BUSY, LoadFailed
from bench.scale import FULL, QUICK, Scale
from bench.table import goals_grid, grids, number

Section = Callable[[Contender, Scale], Iterator[Figure]]

LIVE = ("ironwire", "fastapi", "websockets", "ws", "bun")
DURABLE = ("ironwire", "fastapi-each", "fastapi-group")
SECTIONS: dict[str, tuple[Section, tuple[str, ...]]] = {
    "live": (flows.live, LIVE),
    "durable": (flows.durable, DURABLE),
    "fanout": (flows.fan_out, LIVE),
    "auth": (arrivals.authenticate, LIVE),
    "memory": (arrivals.memory, LIVE),
    "files": (files.transfer, ("ironwire", "fastapi")),
    "connections": (flows.connections, ("ironwire",)),
    "depth": (depth.waiting, ("ironwire",)),
    "mls": (mls.groups, ("ironwire",)),
    "device": (device.stores, ("ironwire",)),
    "clients": (clients.texts, ("ironwire",)),
    "away": (away.returns, ("ironwire",)),
    "profile": (profile.paths, ("ironwire",)),
}
"""What can be asked for with --only, and who takes part."""

OPEN_FILES = 20_000
FAILURES = (Missing, DidNotStart, Refused, LoadFailed, files.WrongAnswer, profile.NoSamples)

WIDTH = 160
"""Where no terminal has another: nothing of a table is cut."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)


class Names(click.ParamType[tuple[str, ...]]):
    """A list of known names, with commas between."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        names = tuple(filter(None, value.split(","))) if isinstance(value, str) else value
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is none of {', '.join(self.known)}", param, ctx)
        return names


PEERS = ("fastapi", "websockets", "ws", "bun")


@click.command()
@click.option("--only", type=Names(tuple(SECTIONS)), default=tuple(SECTIONS), help=f"Of {','.join(SECTIONS)}; all.")
@click.option("--peers", type=Names(PEERS), default=PEERS, help=f"Of {','.join(PEERS)}; all. '' is none.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Figures are medians of them.")
@click.option("--quick", is_flag=True, help="One short round: everything works, and no figure means anything.")
@click.option("--save", is_flag=True, help="Write docs/reports/performance.*.")
def main(only: tuple[str, ...], peers: tuple[str, ...], rounds: int, quick: bool, save: bool) -> None:
    """Measure this machine: IronWire beside its peers, in turn, over loopback."""
    if quick and save:
        raise click.UsageError("the figures of a quick run mean nothing: save a full one")
    raise_open_files()
    scale, rounds = (QUICK, 1) if quick else (FULL, rounds)
    measured: list[Figure] = []
    failures = 0
    for section in only:
        for round_ in range(rounds if section != "profile" else 1):
            for name in SECTIONS[section][1]:
                if name == "ironwire" or name.partition("-")[0] in peers:
                    console.print(f"[bold]{section}[/] {name}, round {round_ + 1}")
                    try:
                        measured += show(SECTIONS[section][0](CONTENDERS[name](), scale))
                    except FAILURES as failure:
                        failures += 1
                        console.print(f"  [red]not measured:[/] {escape(str(failure))}")
    figures = medians(measured)
    verdicts = judge(figures)
    for grid in [*grids(figures), *([goals_grid(verdicts)] if verdicts else [])]:
        console.print(grid.to_rich())
    if save:
        report.save(figures, " ".join(["python -m bench", *sys.argv[1:]]))
        console.print(f"written to {report.FOLDER}")
    sys.exit(1 if failures else 0)


def show(figures: Iterator[Figure]) -> Iterator[Figure]:
    """Print figures as they come."""
    for figure in figures:
        console.print(f"  {figure.case:28} {number(figure.value):>10}")
        if figure.details.get("load_cpu", 0) > BUSY:
            console.print("  [yellow]the load generator was busy all the time: it may be what was measured[/]")
        yield figure


def raise_open_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))


if __name__ == "__main__":
    main()
