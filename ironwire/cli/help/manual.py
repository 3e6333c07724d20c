"""The manual pages, made from the same texts as `--help` and `ironwire help`.

`hatch_build.py` puts them into the wheel; `python -m ironwire.cli.help.manual FOLDER` writes them to a folder.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from ironwire import __version__
from ironwire.cli import WHOLE, cli
from ironwire.cli.help.subjects import SubjectCommand, records
from ironwire.cli.help.topics import TOPICS, Topic

_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
"""Characters that mean something to groff, or that it would typeset as others (groff_char(7))."""


def pages() -> dict[str, str]:
    """Each page by its path below `share/man`."""
    root = click.Context(cli, info_name="ironwire", **cli.context_settings)
    made = {"man1/ironwire.1": "\n".join(_main_page(root)) + "\n"}
    for name, command in cli.commands.items():
        ctx = click.Context(command, info_name=name, parent=root)
        made[f"man1/ironwire-{name}.1"] = "\n".join(_command_page(ctx)) + "\n"
    for name, topic in TOPICS.items():
        made[f"man7/ironwire-{name}.7"] = "\n".join(_topic_page(name, topic)) + "\n"
    return made


def write_pages(folder: Path) -> None:
    """Write every page below `folder`."""
    for path, text in pages().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="ascii")


def _main_page(root: click.Context) -> Iterator[str]:
    yield from _head("ironwire", 1, cli.get_short_help_str(WHOLE))
    yield from _synopsis(root)
    yield ".SH COMMANDS"
    for name, command in cli.commands.items():
        yield from _term(f"ironwire-{name}(1)", command.get_short_help_str(WHOLE))
    yield from _options("OPTIONS", records(cli.get_params(root), root))
    yield from _see_also(f"ironwire-{name}(7)" for name in TOPICS)


def _command_page(ctx: click.Context) -> Iterator[str]:
    command = ctx.command
    yield from _head(f"ironwire-{ctx.info_name}", 1, command.get_short_help_str(WHOLE))
    yield from _synopsis(ctx)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command.help or "")
    if isinstance(command, SubjectCommand):
        yield from _options("OPTIONS", records(command.plain_params(), ctx))
        for (heading, sentence), options in command.subjects().items():
            yield from _options(f"SETTINGS: {heading}", records(options, ctx), sentence)
    else:
        yield from _options("OPTIONS", records(command.params, ctx))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for name, child in command.commands.items():
            yield from _child(click.Context(child, info_name=name, parent=ctx))
    yield from _see_also(["ironwire(1)", *(f"ironwire-{name}(7)" for name in TOPICS)])


def _child(ctx: click.Context) -> Iterator[str]:
    yield f".SS {_quoted(' '.join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)]))}"
    yield from _paragraphs(ctx.command.help or "")
    for terms, text in records(ctx.command.params, ctx):
        yield from _term(terms, text)


def _topic_page(name: str, topic: Topic) -> Iterator[str]:
    yield from _head(f"ironwire-{name}", 7, topic.summary)
    yield ".SH DESCRIPTION"
    for part in topic.parts:
        if isinstance(part, str):
            yield from _paragraphs(part)
        else:
            for term, text in part.items():
                yield from _term(term, text)
    yield from _see_also(["ironwire(1)", *(f"ironwire-{other}(7)" for other in TOPICS if other != name)])


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    # Without a date: the same source makes the same page.
    yield f'.TH {_quoted(name.upper())} {section} "" {_quoted(f"IronWire {__version__}")} "IronWire"'
    yield from (".nh", ".ad l")
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(summary.rstrip('.'))}"


def _synopsis(ctx: click.Context) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    yield f"\\fB{_escaped(ctx.command_path)}\\fR {_escaped(' '.join(ctx.command.collect_usage_pieces(ctx)))}"


def _options(heading: str, found: list[tuple[str, str]], sentence: str = "") -> Iterator[str]:
    if not found:
        return
    yield f".SH {_quoted(heading)}"
    if sentence:
        yield from _paragraphs(sentence)
    for terms, text in found:
        yield from _term(terms, text)


def _see_also(names: Iterable[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield _escaped(", ".join(names))


def _term(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f"\\fB{_escaped(term)}\\fR"
    yield _prose(text)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            yield ".nf"
            yield from (_prose(line) for line in paragraph.removeprefix("\b\n").split("\n"))
            yield ".fi"
        else:
            yield _prose(" ".join(paragraph.split()))


def _prose(text: str) -> str:
    """A line of text, in which what stands between backquotes is bold."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _escaped(text)
    return _guarded("".join(f"\\fB{_escape(part)}\\fR" if i % 2 else _escape(part) for i, part in enumerate(parts)))


def _escaped(text: str) -> str:
    return _guarded(_escape(text))


def _guarded(line: str) -> str:
    """A line that groff does not take for a request."""
    return f"\\&{line}" if line.startswith(".") else line


def _quoted(text: str) -> str:
    """An argument of a request."""
    return '"' + _escape(text).replace('"', r"\(dq") + '"'


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(each) or (each if each.isascii() else f"\\[u{ord(each):04X}]") for each in text)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
