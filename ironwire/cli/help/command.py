"""`ironwire help`: what `--help` says of a command, and topics that belong to none."""

import click

from ironwire.cli.help.completion import HelpWord
from ironwire.cli.help.topics import TOPICS, Topic


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND | TOPIC]", type=HelpWord())
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, or explain a topic: environment, keys or exit-codes."""
    shown = ctx.find_root()
    if len(words) == 1 and words[0] in TOPICS:
        click.echo(_explained(TOPICS[words[0]], ctx))
        return
    for word in words:
        if not isinstance(shown.command, click.Group):
            raise click.UsageError(f"{shown.command_path} has no commands.", ctx)
        command = shown.command.get_command(shown, word)
        if command is None:
            possible = [*shown.command.commands, *(TOPICS if shown.parent is None else ())]
            raise click.NoSuchCommand(word, possibilities=possible, ctx=shown)
        shown = click.Context(command, info_name=word, parent=shown)
    click.echo(shown.get_help())


def _explained(topic: Topic, ctx: click.Context) -> str:
    formatter = ctx.make_formatter()
    formatter.write_text(topic.summary)
    for part in topic.parts:
        formatter.write_paragraph()
        if isinstance(part, str):
            formatter.write_text(" ".join(part.split()))
        else:
            with formatter.indentation():
                formatter.write_dl([*part.items()])
    return formatter.getvalue().rstrip("\n")
