"""Options that several commands share, and what they stand for: the server, the identity, the timeout."""

import math
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import trio

from ironwire.client.errors import ConnectionFailed, KeystoreError
from ironwire.client.store.keystore import load_identity
from ironwire.crypto.signing import Identity
from ironwire.errors import InvalidId, NoHome
from ironwire.ids import DeviceId, parse_device_id
from ironwire.paths import PATH_VARIABLE, default_identity_path

PASSPHRASE_VARIABLE = "IRONWIRE_PASSPHRASE"  # noqa: S105 - the name of the variable
DEFAULT_SERVER = "http://localhost:8080"
ANSWER_SECONDS = 30.0
"""How long a command waits for the server to accept a message, reconnections included."""

server_option = click.option(
    "--server",
    metavar="URL",
    envvar="IRONWIRE_SERVER",
    default=DEFAULT_SERVER,
    show_default=True,
    show_envvar=True,
    help="Where the server is.",
)


def home_key() -> Path:
    """Where the identity is, unless it is named.

    Raises:
        NoHome: this user has no home folder.
    """
    try:
        return default_identity_path()
    except NoHome as error:
        raise NoHome(f"{error}; or name the file on the command line (--key PATH)") from None


_KEY_HELP = f"The identity's file.  [env var: {PATH_VARIABLE}; default: ~/.config/ironwire/identity.key]"
key_option = click.option("--key", metavar="PATH", type=click.Path(path_type=Path), default=home_key, help=_KEY_HELP)
optional_key_option = click.option("--key", metavar="PATH", type=click.Path(path_type=Path), help=_KEY_HELP)
"""For a command that needs no identity most of the time: `home_key` is looked for when it does."""

key_argument = click.argument("key", metavar="[PATH]", type=click.Path(path_type=Path), default=home_key)
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="The settings file.  [default: ironwire.toml, if there is one]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class SecondsRange(click.FloatRange):
    """Seconds between two bounds. `nan` is between any two of them for click."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As of the base class; a number that is none is refused."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def parse_device(_: click.Context, __: click.Parameter, value: str | None) -> DeviceId | None:
    """A click callback: what was typed has to be a device's name."""
    try:
        return None if value is None else parse_device_id(value)
    except InvalidId as error:
        raise InvalidId(f"{value!r} {error}") from None


def this_device() -> DeviceId:
    """The name of this computer, as far as it can be a device's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:64].strip("-")
    return DeviceId(name or "computer")


this_device_option = click.option(
    "--device",
    metavar="NAME",
    callback=parse_device,
    help="Be this device: what comes while it is away waits for it.  [default: this computer's name]",
)


def open_identity(key: Path) -> Identity:
    """The identity in the file; its passphrase, if it has one, from the environment or the person at the terminal.

    Raises:
        KeystoreError: it cannot be opened, or holds a linked device.
    """
    check_there(key)
    return load_identity(key, ask_passphrase)


def check_there(key: Path) -> None:
    """Raises:
    KeystoreError: there is no identity; it says how to create one.
    """
    if not key.exists():
        where = f" {shlex.quote(str(key))}" if _is_named(key) else ""
        raise KeystoreError(f"there is no identity at {key}; create one with `ironwire keygen{where}`")


def _is_named(key: Path) -> bool:
    try:
        return key != default_identity_path()
    except NoHome:
        return True


def new_passphrase() -> str | None:
    """The passphrase of a new key: from the environment, else asked for twice on a terminal, where it may be nothing.

    Raises:
        KeystoreError: there is neither.
    """
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase:
        return passphrase
    if not sys.stdin.isatty():
        raise KeystoreError(
            f"nobody can be asked for a passphrase: set {PASSPHRASE_VARIABLE}, or leave the key unencrypted with"
            " --no-passphrase"
        )
    answer: str = click.prompt(
        "Passphrase (empty: none)",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return answer or None


@contextmanager
def answer_deadline() -> Iterator[None]:
    """Bound what waits for the server to accept something.

    Raises:
        ConnectionFailed: it took longer than `ANSWER_SECONDS`.
    """
    try:
        with trio.fail_after(ANSWER_SECONDS):
            yield
    except trio.TooSlowError:
        raise ConnectionFailed(
            f"the server did not answer within {ANSWER_SECONDS:.0f} s; it may have got the message all the same"
        ) from None


def ask_passphrase() -> str:
    """The passphrase of a sealed key: from the environment, else asked for on a terminal.

    Raises:
        KeystoreError: there is neither.
    """
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise KeystoreError(
            f"the identity is sealed and nobody can be asked for its passphrase; set {PASSPHRASE_VARIABLE}"
        )
    answer: str = click.prompt("Passphrase", hide_input=True, err=True)
    return answer
