"""`ironwire keygen`, `id` and `sign`: the identity's file, without a server."""

import json
from pathlib import Path

import click

from ironwire.cli.options import check_there, json_option, key_argument, key_option, new_passphrase, open_identity
from ironwire.cli.terminal import explain
from ironwire.client.store.keystore import check_free, create_identity, read_client_id
from ironwire.crypto.signing import NONCE_BYTES
from ironwire.errors import InvalidId

_LOST = (
    "If this file is lost, this identity is lost for good: nobody can give it back. Keep a copy, or make a recovery"
    " code: `ironwire recovery create`."
)


@click.command()
@key_argument
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted and do not ask.")
@json_option
def keygen(key: Path, *, no_passphrase: bool, as_json: bool) -> None:
    """Create an identity at PATH and print its client id.

    The id is what others write to; the file is what makes it yours. Without it the identity is lost: keep a copy, or
    make a recovery code (`ironwire recovery create`). The key is sealed with a passphrase, from the terminal or from
    IRONWIRE_PASSPHRASE.
    """
    check_free(key)
    identity = create_identity(key, None if no_passphrase else new_passphrase())
    explain(f"Created {key}", "dim")
    explain(_LOST, "dim")
    click.echo(json.dumps({"client": identity.client_id, "key": str(key)}) if as_json else identity.client_id)


@click.command("id")
@key_argument
@json_option
def show_id(key: Path, *, as_json: bool) -> None:
    """Print the client id of the identity at PATH. No passphrase is needed."""
    check_there(key)
    client_id = read_client_id(key)
    click.echo(json.dumps({"client": client_id, "key": str(key)}) if as_json else client_id)


@click.command()
@click.argument("challenge", metavar="HEX")
@key_option
def sign(challenge: str, key: Path) -> None:
    """Sign the challenge HEX (32 bytes) and print the signature as 128 hex digits.

    For clients of the seed protocol that are written by hand: the answer to `auth_challenge`, for `verify`. Anything
    but 32 bytes is refused, so that this signs no text that could mean something elsewhere.
    """
    try:
        nonce = bytes.fromhex(challenge)
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE_BYTES:
        raise InvalidId(
            f"a challenge is {NONCE_BYTES} bytes: {NONCE_BYTES * 2} hex digits, as `auth_challenge` carries it"
        )
    click.echo(open_identity(key).sign(nonce).hex())
