"""`ironwire serve`: the application of `ironwire.asgi:app` on Hypercorn, with one option for every setting.

Causes that keep the server from starting (a port in use, a folder that cannot be written, a bad setting) are found here
before the first connection is accepted, and reported in one line.
"""

import inspect
import logging
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import hypercorn.trio.run
import structlog
import trio
from hypercorn.config import Sockets
from hypercorn.utils import wrap_app
from rich.text import Text
from typed_settings.cls_utils import deep_options
from typed_settings.types import OptionInfo

from ironwire import __version__
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.help.subjects import SubjectCommand, SubjectOption
from ironwire.cli.options import config_option
from ironwire.cli.terminal import out
from ironwire.errors import ConfigError
from ironwire.server.app import create_app
from ironwire.server.listener.sockets import listen
from ironwire.server.operator.config import Settings
from ironwire.server.operator.loading import load
from ironwire.server.operator.log_writer import flush_log
from ironwire.server.operator.logs import configure_logging, report_ignored, standard_error
from ironwire.server.operator.reloading import ReloadableConfig, reload

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
"""The settings that most operators change: the short help shows these."""
_OPTION_TYPES: dict[Any, click.ParamType[Any] | type] = {
    int: int,
    float: float,
    str: str,
    Path: click.Path(path_type=Path),
    Path | None: click.Path(path_type=Path),
}


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` an option for every setting; an option that is not given is None."""
    for option in reversed(deep_options(Settings)):
        command = _settings_option(option)(command)
    return command


def _settings_option(option: OptionInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    destination = option.path.replace(".", "__")
    flag = option.path.removeprefix("server.").replace(".", "-").replace("_", "-")
    help_text = option.metadata["click"]["help"]
    section = option.path.rpartition(".")[0]
    sentence = (inspect.getdoc(option.parent_cls) or "").partition(". ")[0] if section else "Settings of no section"
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
    loaded = load(config_file, overrides)
    settings = loaded.settings
    configure_logging(settings.log, standard_error(), in_thread=True)
    report_ignored(loaded)
    _prepare_data_folder(settings.data)
    faults: list[str] = []
    app = create_app(settings, cannot_start=faults.append)
    config = _hypercorn_config(settings)
    server = settings.server
    listening = listen(server.host, server.port, server.backlog, "server")
    sockets = Sockets(listening, [], []) if config.ssl_enabled else Sockets([], listening, [])
    wrapped = wrap_app(app, _WSGI_BODY_BYTES, "asgi")
    # Looked up now, because `create_app` puts the guarded worker in its place.
    worker = hypercorn.trio.run.worker_serve
    run_until_stopped = partial(
        _run_until_stopped,
        partial(_greet, settings, listening[0].getsockname()[1]),
        partial(reload, config, lambda: load(config_file, overrides).settings),
    )
    try:
        trio.run(partial(worker, wrapped, config, sockets=sockets, shutdown_trigger=run_until_stopped))
    except SystemExit:
        if not faults:
            raise
        raise Failure(ExitCode.USAGE, *faults) from None
    finally:
        flush_log()  # lines of the writer thread come before the last ones
    _print("Stopped.")


def _hypercorn_config(settings: Settings) -> ReloadableConfig:
    server = settings.server
    config = ReloadableConfig()
    config.backlog = server.backlog
    config.certfile = None if server.certfile is None else str(server.certfile)
    config.keyfile = None if server.keyfile is None else str(server.keyfile)
    hypercorn_log = logging.getLogger("ironwire.hypercorn")
    hypercorn_log.setLevel(logging.WARNING)  # the banner has said where the server listens
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


def _greet(settings: Settings, port: int) -> None:
    server = settings.server
    scheme = "http" if server.certfile is None else "https"
    host = "localhost" if server.host in _ANY_ADDRESS else server.host
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    elsewhere = "" if url == "http://localhost:8080" else f" --server {url}"
    _print(Text.assemble(("IronWire ", "bold"), __version__, " listens on ", (url, "bold bright_blue")))
    _print(f"  data       {settings.data.resolve()}")
    if out().is_terminal:  # a journal has no Ctrl-C
        _print(f"  try it     ironwire chat{elsewhere} CLIENT_ID, in two terminals; `ironwire id` shows yours")
        _print("  stop it    Ctrl-C")
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


def _print(line: str | Text) -> None:
    """Write to standard output, if it takes the text now: the server must not wait for a reader."""
    # Rich leaves the program when the reader has left the pipe.
    with suppress(OSError, ValueError, Failure, SystemExit):
        if sys.stdout is None or not select.select([], [sys.stdout], [], 0)[1]:
            return
        out().print(line)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _run_until_stopped(greet: Callable[[], None], take_up_settings: Callable[[], None]) -> None:
    """The worker waits for this once it has started: one that cannot start says only that.

    SIGHUP says two things: that settings have changed, or that the terminal is gone on which the server was started.
    Under nohup, which ignores it, it never says the second.
    """
    ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        await trio.lowlevel.checkpoint()  # where a worker that could not start is cancelled
        greet()
        async for number in signals:
            if number != signal.SIGHUP or (ends_with_terminal and not _has_terminal()):
                return
            take_up_settings()
