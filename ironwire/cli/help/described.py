"""The commands as `commands.json` describes them: enough for their help and for completion, without their modules.

A command that is to be carried out is imported, and parses its own arguments. `describe.py` makes the file
from the commands.
"""

import importlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

from ironwire.cli.help.completion import Contact, HelpWord
from ironwire.cli.help.subjects import SubjectCommand, SubjectOption

Description = Mapping[str, Any]

FILE = Path(__file__).with_name("commands.json")
SINGLE_TYPES = {each.name: each for each in (click.STRING, click.INT, click.FLOAT, click.BOOL)}
_TYPES: dict[str, type[click.ParamType[Any]]] = {
    each.__name__: each for each in (click.Choice, click.IntRange, click.FloatRange, click.Path, Contact, HelpWord)
}


@cache
def descriptions() -> Description:
    """The description of each command in the file, by name."""
    content: Description = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def load(home: str) -> click.Command:
    """The command at `module:name`, imported; after a space stands the name of a command in it."""
    place, *names = home.split(" ")
    module, _, variable = place.partition(":")
    command: click.Command = getattr(importlib.import_module(f"ironwire.cli.{module}"), variable)
    for name in names:
        assert isinstance(command, click.Group)  # noqa: S101 - `commands.json` says so
        command = command.commands[name]
    return command


class _Described(click.Command):
    """A command that shows its help and completes its arguments, and leaves the rest to the command at `home`."""

    home: str

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if extra.get("resilient_parsing") or _asks_for_help(args):
            shown = super().make_context(info_name, args.copy(), parent, **extra)
            if shown.resilient_parsing or isinstance(self, click.Group):
                return shown
            # No help was shown: what looked like `--help` was the value of an option.
        return load(self.home).make_context(info_name, args, parent, **extra)


class _DescribedSubjects(_Described, SubjectCommand):
    pass


class _DescribedGroup(_Described, click.Group):
    pass


def _asks_for_help(args: list[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return not {"-h", "--help", "--help-all"}.isdisjoint(options)


def described(name: str, home: str) -> click.Command:
    """The command `name` of the program. One that the file does not have yet is imported."""
    description = descriptions().get(name)
    return load(home) if description is None else _build(name, home, description)


def _build(name: str, home: str, description: Description) -> click.Command:
    attributes: dict[str, Any] = {
        "help": description["help"],
        "epilog": description.get("epilog"),
        "params": [_param(param) for param in description["params"]],
    }
    if "commands" in description:
        children = description["commands"].items()
        command: _Described = _DescribedGroup(
            name, commands={child: _build(child, f"{home} {child}", each) for child, each in children}, **attributes
        )
    elif any("subject" in param for param in description["params"]):
        command = _DescribedSubjects(name, **attributes)
    else:
        command = _Described(name, **attributes)
    command.home = home
    return command


def _param(description: Description) -> click.Parameter:
    attributes = dict(description)
    attributes["type"] = _type(attributes["type"])
    if "argument" in attributes:
        return click.Argument([attributes.pop("argument")], **attributes)
    decls = attributes.pop("option")
    if "subject" not in attributes:
        return click.Option(decls, **attributes)
    return SubjectOption(decls, **attributes | {"subject": tuple(attributes["subject"])})


def _type(description: str | Description) -> click.ParamType[Any]:
    if isinstance(description, str):
        return SINGLE_TYPES[description]
    ((name, attributes),) = description.items()
    return _TYPES[name](**attributes)
