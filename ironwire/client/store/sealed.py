"""A device's SQLite file is encrypted by SQLCipher, page by page (docs/decisions/0022-sealed-store.md).

    key  = HKDF-SHA-256(secret of the key file, info = "IronWire device store v1"), 32 bytes
    page = AES-256-CBC with a fresh IV, then HMAC-SHA-512 over ciphertext, IV and the number of the page;
           its key follows from `key` and the 16 random bytes with which the file begins

So the write-ahead log, copies, indexes and free pages are encrypted too, and a page of another file or another place is
an error. A passphrase of the key file encrypts the secret and does not change it: it comes and goes without this file.
"""

import sqlite3
from pathlib import Path
from typing import Self, cast

from attrs import field, frozen
from attrs.validators import max_len, min_len
from sqlcipher3 import dbapi2

from ironwire.client.errors import LocalStoreError
from ironwire.client.store.keystore import Account, LinkedDevice
from ironwire.crypto.kdf import hkdf
from ironwire.crypto.signing import KeyPair

_LABEL = b"IronWire device store v1"
_KEY_BYTES = 32
_FORMAT = 4
"""Of SQLCipher's files; a release that prefers a newer format still reads and writes this one."""
_BUSY_MS = 5_000


@frozen
class StoreKey:
    """The key of every device store of one identity."""

    raw: bytes = field(repr=False, validator=[min_len(_KEY_BYTES), max_len(_KEY_BYTES)])
    """SQLCipher takes one of another length for a passphrase."""

    @classmethod
    def of(cls, pair: KeyPair) -> Self:
        """The key that follows from the secret in the key file."""
        return cls(hkdf(pair.seed, _LABEL, _KEY_BYTES))

    @classmethod
    def of_account(cls, account: Account) -> Self:
        """The key that follows from the secret of an identity, or of a linked device, which has none but its own."""
        return cls.of(account.key if isinstance(account, LinkedDevice) else account)


def open_sealed(path: Path, key: StoreKey) -> sqlite3.Connection:
    """A connection to the file at `path`, which is made where there is none. Transactions are begun by hand, and
    threads take turns. A wrong key is noticed by the first statement that reads.

    Raises:
        LocalStoreError: the SQLite of this process cannot encrypt.
        sqlcipher3.dbapi2.Error: the file cannot be opened.
    """
    database = dbapi2.connect(str(path), isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA cipher_log_level = NONE")  # it would repeat errors on stderr, across a window
        answer = database.execute(f"PRAGMA key = \"x'{key.raw.hex()}'\"").fetchone()
        # Plain SQLite ignores the pragma, and would write in the clear. It may be there without anybody's wish: the
        # linker prefers a libsqlite3 that the program has loaded for everybody (sqlcipher/sqlcipher#385).
        if answer != ("ok",):
            raise LocalStoreError("another SQLite is loaded into this program, and cannot encrypt: nothing is kept")
        database.execute(f"PRAGMA cipher_compatibility = {_FORMAT}")
        database.execute("PRAGMA temp_store = MEMORY")  # temporary files are not encrypted
        database.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    except BaseException:
        database.close()
        raise
    # sqlcipher3 is the standard library's module, compiled with another SQLite, and has no types of its own.
    return cast("sqlite3.Connection", database)
