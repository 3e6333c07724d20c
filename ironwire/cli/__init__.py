"""The command `ironwire`: one module for each group of commands, found here by name.

A module is imported when its command is called, so that `ironwire id` does not wait for the server's imports.
"""

import importlib

import click

from ironwire import __version__
from ironwire.cli.exits import HELP, expected
from ironwire.cli.streams import check_arguments, prepare_streams

_HOMES = {
    "serve": "serve:serve",
    "config": "config:config",
    "doctor": "doctor:doctor",
    "admin": "admin:admin",
    "top": "top:top",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "migrate": "backup:migrate",
    "chat": "chat:chat",
    "send": "messages:send",
    "listen": "listen:listen",
    "history": "messages:history",
    "call": "call:call",
    "upload": "files:upload",
    "download": "files:download",
    "group": "groups:group",
    "contacts": "contacts:contacts",
    "block": "blocks:block",
    "unblock": "blocks:unblock",
    "blocks": "blocks:blocks",
    "devices": "devices:devices",
    "join": "join:join",
    "keygen": "identity:keygen",
    "id": "identity:show_id",
    "sign": "identity:sign",
}
"""Where each command lives, in the order of the help."""


class Commands(click.Group):
    """The commands of `_HOMES`. What they raise on purpose becomes an exit code and a line or two on standard error."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        module, name = _HOMES[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(f"ironwire.cli.{module}"), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        check_arguments(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
            replacement = expected(error)
            if replacement is None:
                raise
            raise replacement from error


@click.group(cls=Commands, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="IronWire %(version)s")
def cli() -> None:
    """Secure real-time messaging: the server, and everything a client needs."""


def main() -> None:
    """The entry point of the program."""
    prepare_streams()
    cli(prog_name="ironwire")
