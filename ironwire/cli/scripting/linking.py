"""`ironwire device link` and `ironwire device accept`: a new device becomes one of this identity's.

new device:    link     shows a text ────────────────> accept     owner device
                        waits at the server <───────── the yes, an entry of the device log, the answer
                        writes its key file
"""

import json
import shlex
import sys
import time
from datetime import datetime
from pathlib import Path

import click
import trio
from rich.text import Text

import ironwire.client as iw
from ironwire.cli import options
from ironwire.cli.devicebook import DeviceBook, NamedDevice, fingerprint, parse_device_name
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import json_option, key_option, new_passphrase, parse_device, server_option, this_device
from ironwire.cli.qr import show_qr
from ironwire.cli.scripting.asking import asked, confirm, yes_option
from ironwire.cli.scripting.given_history import CHOICES, HistoryChoice, asked_history, give_history
from ironwire.cli.streams import read_text
from ironwire.cli.terminal import err, explain, out
from ironwire.client.linking import leave_answer, wait_for_answer
from ironwire.client.store.keystore import check_free
from ironwire.crypto.signing import DeviceKey
from ironwire.e2e.content import KnownHead
from ironwire.e2e.linking import LinkOffer, LinkRequest, PendingLink, SelfConversation, parse_link_text
from ironwire.errors import InvalidLink
from ironwire.ids import DeviceId
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.protocol.devices.log_entry import LogHead

NAME_TAKEN = "Device name of another device key"
"""The reason of docs/protocol.md, section 9.2."""
_MOST_NAMES = 20


@click.command()
@click.option(
    "--device",
    metavar="NAME",
    callback=parse_device,
    default=this_device,
    help="The name of the new device.  [default: this computer's name]",
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted and do not ask.")
@server_option
@key_option
@json_option
def link(device: DeviceId, server: str, key: Path, *, no_passphrase: bool, as_json: bool) -> None:
    """Make this computer a device of an identity that is on another one.

    It shows a QR code, and the same as a text: scan it, or paste it into `ironwire device accept` there, within five
    minutes. The device gets a key of its own, in the file that --key names; the identity's key stays where it is. So a
    device that is lost is revoked, and the identity lives on.
    """
    check_free(key)
    address = iw.ServerAddress.parse(server)
    passphrase = None if no_passphrase else new_passphrase()
    linked = trio.run(_link, address, device, key, passphrase, as_json)
    if as_json:
        click.echo(json.dumps({"client": linked.client_id, "device": linked.device, "key": str(key)}))


async def _link(
    address: iw.ServerAddress, device: DeviceId, path: Path, passphrase: str | None, as_json: bool
) -> iw.LinkedDevice:
    key = DeviceKey.generate()
    pending = PendingLink.begin(address.origin, key.public_key, _now_ms())
    _show(pending, as_json)
    try:
        offer = await wait_for_answer(address, pending, _now_ms)
    except InvalidLink:
        if pending.is_over(_now_ms()):
            raise Failure(ExitCode.UNREACHABLE, "nobody has accepted this device in time: begin again") from None
        raise
    certificate = offer.certificate()
    linked = iw.LinkedDevice(certificate.client, device, key, certificate)
    explain(f"Accepted: this is a device of {linked.client_id} now.")
    linked = await _settle_in(address, linked, path, passphrase, offer)
    explain(f"The key is in {path}. `ironwire chat` opens your conversations as {linked.device}.")
    if offer.history is not None:
        what = "of 30 days" if offer.history == "month" else "of all time"
        explain(f"Your messages {what} are on their way: `chat` and `listen` fetch them, and say how far that is.")
    return linked


def _show(pending: PendingLink, as_json: bool) -> None:
    text, until = pending.request.text, datetime.fromtimestamp(pending.expires_ms / 1000).astimezone()
    explain("On a device that has your identity, scan this, or run there\n  ironwire device accept\nand paste:\n")
    show_qr(err(), text)
    if as_json:
        click.echo(json.dumps({"link": text, "expires": pending.expires_ms}))
    else:
        out().print(Text(text), soft_wrap=True)
    sys.stdout.flush()
    explain(f"\nIt will show this fingerprint:\n{fingerprint(pending.request.device.raw.hex())}")
    explain(f"Waiting until {until:%H:%M}; Ctrl-C gives up. Show the text to nobody else.", "dim")


async def _settle_in(
    address: iw.ServerAddress, linked: iw.LinkedDevice, path: Path, passphrase: str | None, offer: LinkOffer
) -> iw.LinkedDevice:
    """Write the key file, and have a first session. Where another device has the name, take one with a number."""
    wanted = linked.device
    for number in range(2, _MOST_NAMES):
        await trio.to_thread.run_sync(iw.keep_account, path, linked, passphrase)
        try:
            async with KeyFile(path, linked).connect(address) as client:
                log = client.device_log.known
                _check_log(log, offer)
            # The devices that there are now are no news to whoever has just linked this one.
            await trio.to_thread.run_sync(DeviceBook.beside(path).take_news, log, linked.key.public_key.raw.hex())
            return linked
        except iw.AuthenticationRefused as refused:
            if refused.reason != NAME_TAKEN:
                raise
        await trio.Path(path).unlink()
        name = DeviceId(f"{wanted[:60]}-{number}")
        linked = iw.LinkedDevice(linked.client, name, linked.key, linked.certificate)
        explain(f"Another of your devices is called {wanted}: this one is {name}.")
    raise InvalidLink(f"too many of your devices are called {wanted}: choose another name with --device")


def _check_log(log: iw.DeviceLog, offer: LinkOffer) -> None:
    head = LogHead(offer.log.index, bytes.fromhex(offer.log.head))
    if log.compare(head) not in ("same", "older"):
        raise iw.DeviceLogDisputed(
            "the server shows another list of your devices than the device that accepted this one: do not use it before"
            " you know why"
        )


@click.command()
@click.argument("text", required=False)
@click.option("--name", metavar="NAME", help="Call the new device so here.")
@click.option(
    "--history",
    "choice",
    type=click.Choice(CHOICES),
    help="Send it your messages of 30 days, all, or none, without asking.",
)
@yes_option
@options.this_device_option
@server_option
@key_option
def accept(
    text: str | None,
    name: str | None,
    choice: HistoryChoice | None,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    yes: bool,
) -> None:
    """Let a new device in, which waits with `ironwire device link`.

    TEXT is what it shows; without TEXT it is asked for, or read from standard input. You are asked first: compare the
    fingerprint with the one on the new device, which will read and write in your name. Then you are asked whether it is
    to have your messages too; nothing is sent without a yes. Only a device that has the identity's key can let one in.
    """
    if name is not None:
        name = parse_device_name(name)
    request = parse_link_text(text if text is not None else _asked_text())
    address = iw.ServerAddress.parse(server)
    if request.origin != address.origin:
        raise InvalidLink(f"the new device is at {request.origin}, and this one at {address.origin}: use one server")
    key_file = KeyFile.open(key)
    identity = key_file.identity()
    device_key = request.device.raw.hex()
    if not yes:
        explain(f"A new device at {request.origin} asks to be linked. Its fingerprint:")
        explain(f"{fingerprint(device_key)}")
        explain(_MEANING)
    confirm("Is it the same there? Link it?", yes)
    choice = asked_history(choice, yes)
    own = key_file.device(device)
    trio.run(_accept, address, key_file, identity, request, choice)
    book = DeviceBook.beside(key)
    book.note([NamedDevice(name or "", device_key)])
    label = book.label(device_key)
    click.echo(f"Linked {label}; `ironwire device revoke {shlex.quote(label.rstrip('…'))}` puts it out again.")
    sys.stdout.flush()
    trio.run(give_history, address, key_file, own, device_key, choice)


_MEANING = "It will read what comes for you, and write in your name, until you revoke it."


def _asked_text() -> str:
    if not sys.stdin.isatty():
        return read_text("TEXT")
    answer: str = click.prompt("Text", err=True)
    return answer


async def _accept(
    address: iw.ServerAddress,
    key_file: KeyFile,
    identity: iw.Identity,
    request: LinkRequest,
    choice: HistoryChoice,
) -> None:
    async def add(client: iw.Client) -> tuple[bool, LogHead | None]:
        before = await client.device_log.update()
        await client.device_log.add(request.device.raw.hex())
        return before.standing_of(request.device) == "current", client.device_log.known.head

    was_there, head = await asked(address, key_file, add)
    assert head is not None  # noqa: S101 - the device is in it
    certificate = issue_certificate(identity, request.device)
    own = SelfConversation.before_any(identity.client_id)
    known = KnownHead(identity.client_id, head.index, head.hash.hex())
    offer = LinkOffer.make(certificate, known, own, None if choice == "none" else choice)
    failure: Exception | None = None
    try:
        await leave_answer(address, request, offer)
    except (iw.ClientError, InvalidLink) as error:
        failure = error
    if failure is not None:
        if not was_there:
            # The device will never learn that it is one: it must not stay in the log.
            await asked(address, key_file, lambda client: client.device_log.revoke(request.device.raw.hex()))
        raise failure


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
