"""Options shared by the commands for operators: they select the server."""

import sys
from pathlib import Path

import click
from attrs import evolve

from ironwire.server.operator.config import Settings
from ironwire.server.operator.loading import load_settings
from ironwire.server.operator.logs import configure_logging

data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="The server's data folder.  [default: as in the settings]"
)


def loaded_settings(config_file: Path | None, data: Path | None) -> Settings:
    """The settings that the server would start with. Side effect: its parts log to standard error.

    Raises:
        ConfigError: they are invalid.
    """
    settings = load_settings(config_file, {"data": data})
    configure_logging(evolve(settings.log, level="warning"), sys.stderr)
    return settings
