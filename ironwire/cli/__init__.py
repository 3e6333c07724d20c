"""The command `ironwire`: one module for each group of commands, found here by name.

A module is imported when its command is carried out: `--help` and completion come from the description of the commands
(`cli/help/described.py`), and what goes wrong is understood only once something has.
"""

import click

from ironwire import __version__
from ironwire.cli.help.described import described
from ironwire.cli.help.topics import TOPICS
from ironwire.cli.streams import check_arguments, prepare_streams

SECTIONS = {
    "Talk": {
        "chat": "chat.command:chat",
        "send": "scripting.messages:send",
        "listen": "scripting.listen:listen",
        "history": "scripting.messages:history",
        "export": "scripting.export:export",
        "call": "calls.command:call",
        "upload": "scripting.files:upload",
        "download": "scripting.files:download",
    },
    "People and groups": {
        "contacts": "scripting.contacts:contacts",
        "verify": "scripting.verify:verify",
        "group": "scripting.groups:group",
        "block": "scripting.blocks:block",
        "unblock": "scripting.blocks:unblock",
        "blocks": "scripting.blocks:blocks",
    },
    "Identity and devices": {
        "keygen": "scripting.identity:keygen",
        "id": "scripting.identity:show_id",
        "sign": "scripting.identity:sign",
        "device": "scripting.devices:device",
        "recovery": "scripting.recovery:recovery",
        "join": "scripting.join:join",
    },
    "Server": {
        "serve": "operator.serve:serve",
        "config": "operator.config:config",
        "doctor": "operator.doctor:doctor",
        "admin": "operator.admin:admin",
        "top": "operator.top:top",
        "backup": "operator.backup:backup",
        "restore": "operator.backup:restore",
        "migrate": "operator.backup:migrate",
    },
    "Finding out": {
        "help": "help.command:help_",
        "completion": "help.completion:completion",
    },
}
"""The module of each command, in the order of the help."""

WHOLE = 1_000
"""More characters than a first sentence has: in a list of commands none is cut."""
EPILOG = """\
Where a command says TO or WHO, a contact's name will do, or the id of a client (64 hex digits) or a group (# and 32 of
them).
"""

HOMES = {name: home for section in SECTIONS.values() for name, home in section.items()}


class Commands(click.Group):
    """The commands of `SECTIONS`. An error that IronWire raises on purpose becomes an exit code and a line or two on
    standard error.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, (*HOMES, *TOPICS)))
        for section, names in SECTIONS.items():
            with formatter.section(section):
                rows = [(name, self.commands[name].get_short_help_str(WHOLE)) for name in names]
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])
        with formatter.section("Topics, shown by `ironwire help TOPIC`"):
            formatter.write_dl([(name.ljust(width), topic.summary) for name, topic in TOPICS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        check_arguments(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
            from ironwire.cli.failures import expected  # noqa: PLC0415 - knows every error, and so imports the client

            replacement = expected(error)
            if replacement is None:
                raise
            raise replacement from error


@click.group(
    cls=Commands,
    commands={name: described(name, home) for name, home in HOMES.items()},
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="IronWire %(version)s")
def cli() -> None:
    """Secure real-time messaging: the server, and everything a client needs."""


def main() -> None:
    """The entry point of the program."""
    prepare_streams()
    cli(prog_name="ironwire")
