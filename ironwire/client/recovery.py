"""The backup of a client on its server (docs/protocol.md, section 8.3): stored, read back, fetched by its code."""

from ironwire.client.connection.dial import Dial, dial_tcp
from ironwire.client.connection.exchange import ask, explanation
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import TransferFailed
from ironwire.e2e.backup import Backup, open_backup, seal_backup
from ironwire.e2e.recovery import RecoveryCode
from ironwire.errors import InvalidBackup
from ironwire.limits import BACKUP_BYTES

_OK, _NOT_FOUND = 200, 404


async def store_backup(
    address: ServerAddress, backup: Backup, code: RecoveryCode, *, token: str, dial: Dial = dial_tcp
) -> None:
    """Store the backup, instead of an earlier one of this code. When this returns, it was fetched and opened again.

    Args:
        token: from `Client.upload_token`, fresh for each backup.

    Raises:
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the server refuses it, or has kept something else: nobody may be told that it is saved.
        InvalidBackup: it is larger than a server takes.
    """
    blob = seal_backup(backup, code)
    await _put(address, blob, code, token, dial)
    try:
        kept = await fetch_backup(address, code, dial=dial)
    except InvalidBackup as error:
        raise TransferFailed(f"the server gives the backup back damaged: {error}") from error
    if kept != backup:
        raise TransferFailed("the server gives back another backup than was stored: store it again")


async def remove_backup(address: ServerAddress, code: RecoveryCode, *, token: str, dial: Dial = dial_tcp) -> None:
    """Remove the backup of a code that is not used any more.

    Raises:
        ConnectionFailed, TransferFailed: as `store_backup` says.
    """
    await _put(address, b"", code, token, dial)


async def fetch_backup(
    address: ServerAddress, code: RecoveryCode, *, at_least: int = 1, dial: Dial = dial_tcp
) -> Backup | None:
    """The backup of this code; None if the server has none.

    Args:
        at_least: as `open_backup` takes it.

    Raises:
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the server refuses.
        InvalidBackup: what it gives is damaged, or older than it should be.
    """
    status, blob = await ask(dial, address, "GET", _path(code), most_bytes=BACKUP_BYTES)
    if status == _NOT_FOUND:
        return None
    if status != _OK:
        raise TransferFailed(explanation(blob), status)
    return open_backup(blob, code, at_least=at_least)


async def _put(address: ServerAddress, blob: bytes, code: RecoveryCode, token: str, dial: Dial) -> None:
    status, answer = await ask(dial, address, "PUT", _path(code), {"Authorization": f"IronWire {token}"}, blob)
    if status != _OK:
        raise TransferFailed(explanation(answer), status)


def _path(code: RecoveryCode) -> str:
    return f"/backup/{code.backup_id}"
