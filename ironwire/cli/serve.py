"""`ironwire serve`: the application of `ironwire.asgi:app` on Hypercorn, with one option for every setting.

Whatever keeps the server from starting (a port in use, a folder that cannot be written, a bad setting) is found here
before the first connection is taken, and said in one line.
"""

import inspect
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import hypercorn.trio.run
import structlog
import trio
from hypercorn.config import Config, Sockets
from hypercorn.utils import wrap_app
from rich.text import Text
from typed_settings.cls_utils import deep_options
from typed_settings.types import OptionInfo

from ironwire import __version__
from ironwire.cli.options import config_option
from ironwire.cli.subjects import SubjectCommand, SubjectOption
from ironwire.cli.terminal import out
from ironwire.errors import ConfigError
from ironwire.server.app import create_app
from ironwire.server.config import ServerSettings, Settings
from ironwire.server.loading import load_settings
from ironwire.server.logs import configure_logging

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on
_WSGI_BODY_BYTES = 0
_log = structlog.get_logger(__name__)
COMMON_SETTINGS = frozenset(
    {
        "data",
        "server.host",
        "server.port",
        "server.certfile",
        "server.keyfile",
        "auth.origins",
        "auth.registration",
        "upload.auth",
        "history.days",
        "turn.urls",
        "log.level",
    }
)
"""What most operators choose: the short help shows these."""
_OPTION_TYPES: dict[Any, click.ParamType[Any] | type] = {
    int: int,
    float: float,
    str: str,
    Path: click.Path(path_type=Path),
    Path | None: click.Path(path_type=Path),
}


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` an option for every setting; what is not on the command line arrives as None."""
    for option in reversed(deep_options(Settings)):
        command = _settings_option(option)(command)
    return command


def _settings_option(option: OptionInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    destination = option.path.replace(".", "__")
    flag = option.path.removeprefix("server.").replace(".", "-").replace("_", "-")
    help_text = option.metadata["click"]["help"]
    section = option.path.rpartition(".")[0]
    sentence = (inspect.getdoc(option.parent_cls) or "").partition(". ")[0] if section else "What belongs to no section"
    declare = partial(
        click.option,
        cls=SubjectOption,
        subject=(section or "general", sentence.rstrip(".")),
        is_common=option.path in COMMON_SETTINGS,
    )
    if option.cls is bool:
        return declare(f"--{flag}/--no-{flag}", destination, default=None, help=help_text)
    if get_origin(option.cls) is Literal:
        choices = click.Choice(get_args(option.cls))
        return declare(f"--{flag}", destination, type=choices, help=f"{help_text}  [default: {option.default}]")
    if get_origin(option.cls) is tuple:
        return declare(f"--{flag}", destination, multiple=True, metavar="TEXT", help=f"{help_text} Repeatable.")
    default = "" if option.default is None else f"  [default: {option.default}]"
    return declare(f"--{flag}", destination, type=_OPTION_TYPES[option.cls], help=help_text + default)


@click.command(cls=SubjectCommand)
@config_option
@_with_settings
def serve(config_file: Path | None, **options: object) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Every option may also stand in the settings file, or in the environment as IRONWIRE_ and its section and name:
    IRONWIRE_SERVER_PORT.
    """
    overrides = {name.replace("__", "."): None if value == () else value for name, value in options.items()}
    settings = load_settings(config_file, overrides)
    configure_logging(settings.log, sys.stderr)
    _prepare_data_folder(settings.data)
    app = create_app(settings)
    config = _hypercorn_config(settings)
    listening = _listen(settings.server)
    sockets = Sockets([listening], [], []) if config.ssl_enabled else Sockets([], [listening], [])
    wrapped = wrap_app(app, _WSGI_BODY_BYTES, "asgi")
    # Looked up now, because `create_app` puts the guarded worker in its place.
    worker = hypercorn.trio.run.worker_serve
    until_stopped = partial(_greet_until_told_to_stop, settings, listening.getsockname()[1])
    trio.run(partial(worker, wrapped, config, sockets=sockets, shutdown_trigger=until_stopped))
    out().print("Stopped.")


def _hypercorn_config(settings: Settings) -> Config:
    server = settings.server
    config = Config()
    config.backlog = server.backlog
    config.certfile = None if server.certfile is None else str(server.certfile)
    config.keyfile = None if server.keyfile is None else str(server.keyfile)
    hypercorn_log = logging.getLogger("ironwire.hypercorn")
    # The banner has said where the server listens.
    hypercorn_log.setLevel(max(logging.WARNING, logging.getLogger().level))
    config.errorlog = hypercorn_log
    return config


def _prepare_data_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"data = {str(folder)!r}: the folder cannot be written ({error.strerror}); choose another with --data"
        ) from error


def _listen(server: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        socket.getaddrinfo(server.host, server.port, family)  # which says why, where `create_server` would not
        return socket.create_server((server.host, server.port), family=family, backlog=server.backlog)
    except socket.gaierror as error:
        raise ConfigError(f"server.host = {server.host!r} is no address of this machine: {error.strerror}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(
            f"cannot listen on {server.host}:{server.port}: {reason}; choose another with --host and --port"
        ) from error


def _greet(settings: Settings, port: int) -> None:
    server = settings.server
    scheme = "http" if server.certfile is None else "https"
    host = "localhost" if server.host in _ANY_ADDRESS else server.host
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    elsewhere = "" if url == "http://localhost:8080" else f" --server {url}"
    console = out()
    console.print(Text.assemble(("IronWire ", "bold"), __version__, " listens on ", (url, "bold cyan")))
    console.print(f"  data       {settings.data.resolve()}")
    if console.is_terminal:  # a journal has no Ctrl-C
        console.print(f"  try it     ironwire chat{elsewhere} CLIENT_ID, in two terminals; `ironwire id` shows yours")
        console.print("  stop it    Ctrl-C")
    if server.certfile is None and not _is_loopback(server.host):
        _log.warning(
            "other machines can reach the server without TLS, and what is sent can be read on the way",
            host=server.host,
            port=port,
            advice="put a TLS proxy in front, set --certfile and --keyfile, or listen on --host 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _greet_until_told_to_stop(settings: Settings, port: int) -> None:
    """The worker waits for this once it has started: one that cannot start says only that."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await trio.lowlevel.checkpoint()  # where a worker that could not start is cancelled
        _greet(settings, port)
        async for _ in signals:
            return
