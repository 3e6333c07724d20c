"""`ironwire config`: an example of all settings, a check of the given ones, and those in effect on this machine."""

from pathlib import Path

import click

from ironwire.cli.options import config_option
from ironwire.cli.table import show_table
from ironwire.server.operator.loading import configured_file, example_toml, load, shown_values


@click.group()
def config() -> None:
    """See and check the settings of the server."""


@config.command()
def example() -> None:
    """Print a settings file that explains every setting: its meaning, what is allowed and its default.

    Every value is commented out, so the file changes nothing until you change it.
    """
    click.echo(example_toml(), nl=False)


@config.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Say OK if a server could start with these settings, or name every fault: its key, its value, what is allowed.

    FILE is the settings file; without it, the one that the server would read. The environment counts as well.
    """
    loaded = load(file)
    if loaded.ignored:
        click.echo(f"ignored, as Kubernetes sets them for a service: {', '.join(loaded.ignored)}", err=True)
    click.echo(f"OK: {file or configured_file() or 'no settings file'}, and the environment")


@config.command()
@config_option
def show(config_file: Path | None) -> None:
    """Show every setting that holds, and where its value comes from: a file, the environment or the default."""
    loaded = load(config_file)
    show_table(
        ("setting", "value", "from"),
        [(path, value, loaded.sources.get(path, "default")) for path, value in shown_values(loaded.settings).items()],
    )
