"""`ironwire completion`: the script that makes a shell complete, and the types of arguments that it completes.

Rule: this module is imported for every command line, and imports nothing heavier than click at its top.
"""

from pathlib import Path
from typing import Any, Literal

import click
from click.shell_completion import CompletionItem, shell_complete

from ironwire.cli.help.topics import TOPICS

VARIABLE = "_IRONWIRE_COMPLETE"
"""The name that click looks for by itself; the scripts set it when they ask for completions."""

Kind = Literal["anybody", "client", "group", "name", "device"]


class Contact(click.ParamType[Any]):
    """An argument that means a contact: `anybody`, a `client`, a `group`, or as `name` only what has a name here. Or a
    `device` of one's own.
    """

    name = "text"

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The contacts or devices of the identity that `--key` names on this line, or of the default one."""
        from ironwire.cli.addressbook import AddressBook  # noqa: PLC0415 - not needed where no contact is completed
        from ironwire.errors import IronWireError  # noqa: PLC0415 - as above
        from ironwire.paths import default_identity_path  # noqa: PLC0415 - as above

        typed = ctx.params.get("key")
        try:
            key = default_identity_path() if typed is None else Path(typed).expanduser()
            if self.kind == "device":
                from ironwire.cli.devicebook import DeviceBook  # noqa: PLC0415 - as above

                return [CompletionItem(each) for each in DeviceBook.beside(key).names if each.startswith(incomplete)]
            book = AddressBook.beside(key)
        except (IronWireError, RuntimeError):  # no home folder, or contacts that cannot be read
            return []
        is_wanted = {"client": lambda id_: id_[0] != "#", "group": lambda id_: id_[0] == "#"}.get(self.kind)
        return [
            CompletionItem(name)
            for name, id_ in book.all().items()
            if name.startswith(incomplete) and (is_wanted is None or is_wanted(id_))
        ]


ANYBODY = Contact("anybody")
CLIENT = Contact("client")
GROUP = Contact("group")
NAME = Contact("name")
DEVICE = Contact("device")


class HelpWord(click.ParamType[Any]):
    """A command, a topic, or a command of the command before it."""

    name = "text"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Whatever may follow the words that are there."""
        command: click.Command | None = ctx.find_root().command
        words: tuple[str, ...] = ctx.params.get(param.name or "") or ()
        for word in words:
            command = command.commands.get(word) if isinstance(command, click.Group) else None
        known = {} if not isinstance(command, click.Group) else command.commands
        names = [*known] if words else [*known, *TOPICS]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes your shell complete commands, options, files, contacts and groups.

    \b
    bash  in ~/.bashrc (bash 4.4 or later):
            eval "$(ironwire completion bash)"
    zsh   in ~/.zshrc, after compinit:
            eval "$(ironwire completion zsh)"
    fish  once:
            ironwire completion fish > ~/.config/fish/completions/ironwire.fish

    Contacts are those of the identity that `--key` or IRONWIRE_KEY names, else of the default one.
    """
    shell_complete(ctx.find_root().command, {}, "ironwire", VARIABLE, f"{shell}_source")
