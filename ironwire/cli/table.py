"""Tables for people: nothing of an id or a name is ever cut off."""

from collections.abc import Sequence

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ironwire.cli.terminal import out

_WIDEST = 10_000


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A row a line; on a terminal too narrow for that, a line for each cell. Nothing is cut off: half an id is none."""
    console = out()
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(Text, row))
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    if needed <= console.width or not console.is_terminal:
        console.width = max(console.width, needed)
        console.print(table)
        return
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            if cell:
                console.print(Text.assemble((f"{name}: " if name else "", "bold"), cell))
        console.print()
