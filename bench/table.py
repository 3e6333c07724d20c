"""Figures as grids of text, which a terminal and a Markdown file show alike."""

from collections.abc import Sequence

from attrs import frozen
from rich.table import Table

from bench.contenders import TITLES
from bench.figures import BASE, MEASURES, Figure, advantage
from bench.goals import Verdict


@frozen
class Grid:
    """A table: the first column names its rows, the others are numbers."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_rich(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for position, name in enumerate(self.heading):
            table.add_column(name, justify="right" if position else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.heading) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.heading, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, ""])


def grids(figures: Sequence[Figure]) -> list[Grid]:
    """One grid for each measure that has figures, in the order of `MEASURES`."""
    found = {name: [figure for figure in figures if figure.measure == name] for name in MEASURES}
    return [_grid(name, same) for name, same in found.items() if same]


def goals_grid(verdicts: Sequence[Verdict]) -> Grid:
    rows = tuple((each.goal, each.measured or "", "yes" if each.is_met else "NO") for each in verdicts)
    return Grid("Goals", ("goal", "measured", "met"), rows)


def number(value: float) -> str:
    """Three digits that mean something, with commas."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _grid(name: str, figures: Sequence[Figure]) -> Grid:
    measure = MEASURES[name]
    cases = list(dict.fromkeys(figure.case for figure in figures))
    subjects = list(dict.fromkeys(figure.subject for figure in figures))
    index = {(figure.case, figure.subject): figure for figure in figures}
    heading = ["", *(TITLES.get(subject, subject) for subject in subjects)]
    rows = [[case, *(_cell(index, case, subject) for subject in subjects)] for case in cases]
    if name == "profile":
        rows.append(["sum", *(number(sum(f.value for f in figures if f.subject == each)) for each in subjects)])
    if subjects == [BASE]:
        heading.append("against the first")
        first = index[cases[0], BASE]
        for row, case in zip(rows, cases, strict=True):
            row.append(f"{index[case, BASE].value / first.value:.2f}x")
    if all("p50_ms" in figure.details for figure in figures) and any(subject == BASE for _, subject in index):
        heading += ["IronWire p50 ms", "p99 ms", "server µs each"]
        for row, case in zip(rows, cases, strict=True):
            row.extend(_details(index.get((case, BASE))))
    return Grid(f"{measure.title} ({measure.unit})", tuple(heading), tuple(tuple(row) for row in rows))


def _cell(index: dict[tuple[str, str], Figure], case: str, subject: str) -> str:
    figure, base = index.get((case, subject)), index.get((case, BASE))
    if figure is None:
        return ""
    if "percent" in figure.details:
        return f"{number(figure.value)} ({figure.details['percent']:.0f} %)"
    if base is None or subject == BASE:
        return number(figure.value)
    return f"{number(figure.value)} ({advantage(figure, base):.2f}x)"


def _details(figure: Figure | None) -> list[str]:
    return [] if figure is None else [number(figure.details[key]) for key in ("p50_ms", "p99_ms", "server_us")]
