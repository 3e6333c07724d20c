"""`ironwire verify`: whether the id of somebody is really theirs."""

import json
import time
from pathlib import Path

import click
from rich.text import Text

from ironwire.cli.addressbook import VERIFIED, AddressBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.help.completion import CLIENT
from ironwire.cli.options import check_there, json_option, key_option
from ironwire.cli.qr import show_qr
from ironwire.cli.render import when
from ironwire.cli.terminal import explain, out
from ironwire.client import in_groups, read_client_id, safety_number
from ironwire.crypto.signing import is_public_key
from ironwire.ids import ClientId
from ironwire.protocol.devices.safety import compare_safety_text, safety_text

_GROUPS_A_LINE = 4


@click.command()
@click.argument("who", type=CLIENT)
@click.option("--confirm", "is_confirmed", is_flag=True, help="You have compared it, and it is the same: mark WHO.")
@click.option("--scan", "scanned", metavar="TEXT", help="Compare with the QR code of WHO, or its text; mark WHO if so.")
@click.option("--undo", "is_undone", is_flag=True, help="Take the mark back.")
@key_option
@json_option
def verify(who: str, scanned: str | None, key: Path, *, is_confirmed: bool, is_undone: bool, as_json: bool) -> None:
    """Show the safety number of you and WHO, 60 digits that are the same on both sides.

    Compare it where nobody can change it on the way: face to face, or by voice. Is it the same, you have the right id,
    and nobody stands between you. It covers who you are, and not on which device: it stays when one of you links
    another. The mark is kept on this computer, and shown beside the name.
    """
    if is_confirmed + is_undone + (scanned is not None) > 1:
        raise click.UsageError("One thing at a time: --confirm, --scan or --undo.")
    check_there(key)
    own, book = read_client_id(key), AddressBook.beside(key)
    peer = book.client(who)
    if not is_public_key(peer):
        raise click.UsageError("Nobody can have this id: it is no key. Ask for it once more.")
    if peer == own:
        raise click.UsageError("This is your own id: there is nobody to compare it with.")
    if scanned is not None and not compare_safety_text(scanned, own, peer):
        raise Failure(
            ExitCode.REFUSED,
            f"This is not the code of you and {book.label(peer)}: one of you has a wrong id, and somebody may stand"
            " between you.",
            "Compare your ids (`ironwire id`, `ironwire contacts list`) before you write anything that matters.",
        )
    if is_confirmed or scanned is not None:
        book.verify(peer, time.time_ns() // 1_000_000)
    elif is_undone:
        book.verify(peer, None)
    if as_json:
        click.echo(json.dumps(_described(own, peer, book)))
    elif is_undone:
        click.echo(f"{book.label(peer)} is not verified any more.")
    elif is_confirmed or scanned is not None:
        click.echo(f"{book.label(peer)} is verified.")
    else:
        _show(own, peer, who, book)


def _described(own: ClientId, peer: ClientId, book: AddressBook) -> dict[str, str | int | None]:
    return {
        "client": peer,
        "number": safety_number(own, peer),
        "code": safety_text(own, peer),
        "verified": book.verified_ms(peer),
    }


def _show(own: ClientId, peer: ClientId, who: str, book: AddressBook) -> None:
    console, verified_ms = out(), book.verified_ms(peer)
    explain(f"The safety number of you and {book.label(peer)}:\n", console=console)
    groups = in_groups(safety_number(own, peer)).split()
    for start in range(0, len(groups), _GROUPS_A_LINE):
        console.print(Text("  " + " ".join(groups[start : start + _GROUPS_A_LINE]), "bold"))
    if console.is_terminal:
        console.print()
        show_qr(console, safety_text(own, peer))
    console.print()
    if verified_ms is not None:
        console.print(Text(f"{VERIFIED} verified on {when(verified_ms):%Y-%m-%d}", "bright_blue"))
        return
    name = who if book.is_known(peer) else peer
    explain("Not compared yet. If it is the same there:", console=console)
    console.print(Text(f"  ironwire verify {name} --confirm"))
