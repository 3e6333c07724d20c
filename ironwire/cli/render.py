"""How messages look: as lines for people, and as JSON for programs.

Rule: whatever a peer chose has passed `terminal.printable` before it is in a `Text`, and what is printed as JSON is ASCII.
"""

import json
from datetime import datetime

from rich.filesize import decimal
from rich.text import Text

from ironwire.cli.terminal import printable, printable_lines
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import DeliveredFile, DeliveredText

YOU = "you"


def received(message: DeliveredText | DeliveredFile, sender: str, at: datetime) -> Text:
    """A message from `sender`, by the name that this user has for them."""
    match message:
        case DeliveredText(text=text):
            return _utterance(sender, "bold cyan", at, [Text(line) for line in printable_lines(text)])
        case DeliveredFile():
            return _utterance(sender, "bold cyan", at, _file_lines(message))


def own(text: str, at: datetime, problem: str | None = None) -> Text:
    """A line of this user's: accepted by the server, or with the `problem` that kept it from being delivered."""
    lines = [Text(line) for line in printable_lines(text)]
    if problem is None:
        lines[-1].append("  ✓", "green")
    else:
        lines[-1].append(f"  ✗ not delivered: {problem}", "bold red")
    return _utterance(YOU, "bold green", at, lines)


def notice(text: str, style: str = "dim") -> Text:
    """Something that the program itself has to say."""
    return Text(f"      {printable(text)}", style)


def as_json(message: DeliveredText | DeliveredFile, id_: MessageId | None) -> str:
    """The frame as it came, on one line of ASCII."""
    return json.dumps(json.loads(encode(message, id_)))


def _utterance(name: str, style: str, at: datetime, lines: list[Text]) -> Text:
    head = Text.assemble((f"{at:%H:%M} ", "dim"), (name, style), " ")
    return head + Text("\n" + " " * head.cell_len).join(lines)


def _file_lines(file: DeliveredFile) -> list[Text]:
    kind = "file" if file.kind is None else file.kind
    name = f"“{printable(file.name)}”" if file.name else "without a name"
    size = "" if file.size is None else f", {decimal(file.size)}"
    lines = [Text(f"sends a {kind} {name}{size}"), Text(f"/save {file.url}", "dim")]
    if file.caption:
        lines[1:1] = [Text(line, "italic") for line in printable_lines(file.caption)]
    return lines
