"""`ironwire call`: an audio call from a terminal. It plays a tone or a file and records the answer.

A demonstration that calls work, and a tool to find out why they do not: with `--relay`, whether the TURN server does.
"""

import os
from functools import partial
from pathlib import Path

import click
import trio

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.help.completion import CLIENT
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import SecondsRange, key_option, server_option, this_device_option
from ironwire.client import ServerAddress
from ironwire.ids import ClientId, DeviceId, is_group


@click.command()
@click.argument("to", required=False, type=CLIENT)
@click.option("--answer", "is_answering", is_flag=True, help="Wait for a call, from TO alone if given, and answer it.")
@click.option(
    "--tone",
    "tone_hz",
    type=click.IntRange(50, 3_500),
    default=440,
    show_default=True,
    metavar="HZ",
    help="Play a tone.",
)
@click.option(
    "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Play this file instead of a tone."
)
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Write what is heard to this WAV file.")
@click.option(
    "--seconds", type=SecondsRange(1, 3_600), default=10, show_default=True, metavar="N", help="How long to talk."
)
@click.option(
    "--wait",
    "wait_seconds",
    type=SecondsRange(1, 3_600),
    default=90,
    show_default=True,
    metavar="N",
    help="How long to wait for the other side.",
)
@click.option(
    "--relay",
    "is_relayed",
    is_flag=True,
    help="Let all sound go through the server's TURN: the other side does not learn our address.",
)
@this_device_option
@server_option
@key_option
def call(
    to: str | None,
    tone_hz: int,
    file: Path | None,
    record: Path | None,
    seconds: float,
    wait_seconds: float,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    is_answering: bool,
    is_relayed: bool,
) -> None:
    """Call TO and talk for a while, or answer a call.

    The call goes on when the connection to the server is lost for some seconds. Where both sides have devices that read
    encrypted messages, the server does not learn how the two reach each other.

    Needs the extra `ironwire[calls]`.
    """
    if to is None and not is_answering:
        raise click.UsageError("Nobody to call: give TO, or --answer.")
    book = AddressBook.beside(key)
    peer = None if to is None else book.address(to)
    if peer is not None and is_group(peer):
        raise click.UsageError("A group cannot be called.")
    if record is not None and (record.exists() or not os.access(record.parent, os.W_OK)):
        raise click.UsageError(f"{record} is there already, or cannot be written: name another file.")
    try:
        from ironwire.cli.calls.calling import Sound, Talk, run_call  # noqa: PLC0415  # aiortc is optional, and slow to import
    except ImportError as error:
        raise Failure(ExitCode.USAGE, f"calls need an extra ({error}): pip install 'ironwire[calls]'") from None
    key_file = KeyFile.open(key)
    talk = Talk(Sound(tone_hz, file, record), seconds, wait_seconds, is_relayed, key_file.device(device))
    callee = None if peer is None else ClientId(peer)
    run = partial(run_call, ServerAddress.parse(server), key_file, book, callee, talk, is_called=is_answering)
    heard_seconds = trio.run(run)
    click.echo(f"heard {heard_seconds:.1f} s" + ("" if record is None else f", recorded in {record}"))
