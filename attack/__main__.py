"""`python -m attack [--only NAME]... [--seconds 5] [--save]`.

Exit status 1 means that an attack broke a rule; which one, it says.
"""

import sys

import click
from rich.console import Console
from rich.markup import escape

from attack import lab, report
from attack.catalogue import ATTACKS
from attack.verdict import Result, decided
from bench.__main__ import WIDTH, raise_open_files

MORE_RUNS = 2

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)


@click.command()
@click.option("--only", "names", type=click.Choice(list(ATTACKS)), multiple=True, help="Repeatable; default: all.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--calm", "calm_seconds", type=click.FloatRange(min=0.5), default=3.0, show_default=True)
@click.option("--save", is_flag=True, help="Write docs/reports/audit.md and audit.json.")
def main(names: tuple[str, ...], seconds: float, calm_seconds: float, save: bool) -> None:
    """Attack a server of one's own, on loopback, and time those who only want to talk."""
    raise_open_files()
    results = [attempt(name, seconds, calm_seconds) for name in names or ATTACKS]
    if save:
        report.save(results, " ".join(["python -m attack", *sys.argv[1:]]))
        console.print(f"written to {report.FOLDER}")
    broken = [result.attack for result in results if any(result.broken())]
    console.print(f"{len(results) - len(broken)} of {len(results)} attacks were withstood")
    sys.exit(1 if broken else 0)


def attempt(name: str, seconds: float, calm_seconds: float) -> Result:
    """One run; or three, and one of them decides, where the first only made bystanders wait: a disk that others use
    too stalls for a tenth of a second now and then, whoever attacks.
    """
    first = show(lab.run(name, seconds, calm_seconds))
    if not any(first.delays()) or any(first.breaches()):
        return first
    return decided([first, *(show(lab.run(name, seconds, calm_seconds)) for _ in range(MORE_RUNS))])


def show(result: Result) -> Result:
    broken = list(result.broken())
    verdict = "[red]broke[/]" if broken else "[green]stood[/]"
    live, durable = result.live, result.durable
    console.print(
        f"{verdict} {result.attack:32} "
        f"{result.ratio():6.1f}x"
        f"  live {live.calm_ms:5.1f} {live.attacked_ms:6.1f} {live.after_ms:6.1f} ms"
        f"  durable {durable.calm_ms:5.1f} {durable.attacked_ms:6.1f} {durable.after_ms:6.1f} ms"
        f"  {result.memory.peak_kib / 1024:5.0f} of {result.memory.allowed_kib() / 1024:5.0f} MiB"
        f"  {result.tries} {ATTACKS[result.attack].counted}: {report.outcomes(result.outcomes)}"
    )
    for each in broken:
        console.print(f"      [red]{escape(each)}[/]")
    return result


if __name__ == "__main__":
    main()
