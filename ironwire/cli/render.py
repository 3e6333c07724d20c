"""How messages look: as lines for people, and as JSON for programs.

Rule: whatever a peer or a server chose has passed `terminal.printable` before it is in a `Text`, and what is printed as
JSON is ASCII.
"""

import json
from datetime import datetime

from rich.filesize import decimal
from rich.text import Text

from ironwire.cli.terminal import printable, printable_lines
from ironwire.client import Connected, DeliveredFile, DeliveredText, Disconnected, Error, Missed
from ironwire.ids import MessageId
from ironwire.wire.codec import encode

YOU = "you"
_INDENT = " " * len("00:00 ")


def now() -> datetime:
    """The time on the user's wall."""
    return datetime.now().astimezone()


def received(
    message: DeliveredText | DeliveredFile, sender: str, at: datetime, *, style: str = "bold cyan", fetch: str = "/save"
) -> Text:
    """A message from `sender`, by the name that this user has for them. `fetch` is the command that gets a file."""
    if isinstance(message, DeliveredFile):
        lines = _file_lines(message, fetch)
    else:
        lines = [Text(line) for line in printable_lines(message.text)]
    return _utterance(sender, style, at, lines)


def own(text: str, at: datetime, problem: str | None = None) -> Text:
    """A line of this user's: accepted by the server, or with the `problem` that kept it from being delivered."""
    lines = [Text(line) for line in printable_lines(text)]
    if problem is None:
        lines[-1].append("  ✓", "green")
    else:
        lines[-1].append(f"  ✗ not delivered: {printable(problem)}", "bold red")
    return _utterance(YOU, "bold green", at, lines)


def notice(text: str, style: str = "dim") -> Text:
    """Something that the program itself has to say."""
    return Text(_INDENT + printable(text), style)


def incident(event: Connected | Disconnected | Missed | Error) -> Text:
    """What happened beside messages: to the connection, or to what this client sent without an id."""
    match event:
        case Connected():
            return notice("connected")
        case Disconnected(reason, retry_seconds):
            return notice(f"{reason}; next attempt in {retry_seconds:.0f} s", "yellow")
        case Missed(count):
            return notice(f"{count} messages came too fast and were missed", "bold red")
        case Error(msg, detail):
            return notice(f"the server says {msg}" + (f": {detail}" if detail else ""), "red")


def as_json(message: DeliveredText | DeliveredFile, id_: MessageId | None) -> str:
    """The frame as it came, on one line of ASCII."""
    return json.dumps(json.loads(encode(message, id_)))


def _utterance(name: str, style: str, at: datetime, lines: list[Text]) -> Text:
    head = Text.assemble((f"{at:%H:%M} ", "dim"), (name, style), " ")
    return head + Text("\n" + " " * head.cell_len).join(lines)


def _file_lines(file: DeliveredFile, fetch: str) -> list[Text]:
    name = f"“{printable(file.name)}”" if file.name else "a file"
    facts = [file.kind or "file", *([] if file.size is None else [decimal(file.size)])]
    caption = printable_lines(file.caption) if file.caption else []
    return [
        Text(f"sends {name} ({', '.join(facts)})"),
        *(Text(line, "italic") for line in caption),
        Text(f"{fetch} {file.url}", "dim"),
    ]
