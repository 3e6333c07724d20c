"""Makes `commands.json`: what the help and completion say of every command, from the commands themselves.

So `ironwire --help` imports none of them, and `ironwire send --help` neither Trio nor the client. `python -m
ironwire.cli.help.describe` writes the file; a test fails while it is out of date.
"""

import inspect
import json
from typing import Any

import click

from ironwire.cli import HOMES
from ironwire.cli.help.completion import Contact, HelpWord
from ironwire.cli.help.described import FILE, SINGLE_TYPES, Description, load
from ironwire.cli.help.subjects import HelpAll, SubjectOption


def document() -> str:
    """The content of the file."""
    return json.dumps({name: _command(load(home)) for name, home in HOMES.items()}, indent=1, ensure_ascii=False) + "\n"


def _command(command: click.Command) -> Description:
    description: dict[str, Any] = {"help": inspect.cleandoc(command.help or "")}
    if command.epilog:
        description["epilog"] = command.epilog
    description["params"] = [_param(param) for param in command.params if not isinstance(param, HelpAll)]
    if isinstance(command, click.Group):
        description["commands"] = {name: _command(each) for name, each in command.commands.items()}
    return description


def _param(param: click.Parameter) -> Description:
    description: dict[str, Any] = {}
    if isinstance(param, click.Option):
        flags = [*param.opts[:-1], "/".join([param.opts[-1], *param.secondary_opts])]
        description |= {"option": [param.name, *flags]}
        if param.is_flag:
            description["is_flag"] = True
        if param.show_default:
            description |= {"show_default": param.show_default, "default": param.default}
        if param.show_envvar:
            description |= {"show_envvar": True, "envvar": param.envvar}
        for name in ("multiple", "hidden"):
            if getattr(param, name):
                description[name] = True
        if isinstance(param, SubjectOption):
            description |= {"subject": param.subject, "is_common": param.is_common}
    else:
        description |= {"argument": param.name, "nargs": param.nargs}
    description["required"] = param.required
    for name in ("metavar", "help"):
        if (value := getattr(param, name)) is not None:
            description[name] = value
    description["type"] = _type(param.type)
    return description


def _type(type_: click.ParamType[Any]) -> str | Description:
    """A subclass is described as the type that it refines: the command itself parses what is typed."""
    match type_:
        case click.Choice():
            return {"Choice": {"choices": list(type_.choices)}}
        case click.IntRange() | click.FloatRange():
            bounds = {"min": type_.min, "max": type_.max}
            name = "IntRange" if isinstance(type_, click.IntRange) else "FloatRange"
            return {name: {bound: value for bound, value in bounds.items() if value is not None}}
        case click.Path():
            return {"Path": {name: False for name in ("file_okay", "dir_okay") if not getattr(type_, name)}}
        case Contact():
            return {"Contact": {"kind": type_.kind}}
        case HelpWord():
            return {"HelpWord": {}}
        case _ if type_.name in SINGLE_TYPES:
            return type_.name
        case _:
            raise TypeError(f"{type_!r} cannot be described: teach it to describe.py and described.py")


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
