"""The invites of a server that takes whom it does not know only with one: a folder of empty files.

There is a file for each use that is left, named by the hash of the invite; its time of change is when it ends. To use
one is to remove a file, which succeeds for one client alone, crash or not. Whoever reads the folder learns no invite.
"""

import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from attrs import define

from ironwire.errors import StoreError

INVITES = "invites"
"""The folder's name in the data folder."""

DAY_MS = 86_400_000
_INVITE_BYTES = 16


@define(eq=False)
class Invites:
    """The invites that are open. What is done here is small enough to be done inline.

    Args:
        folder: made with the first invite.
        now_ms: Unix milliseconds.
        is_clock_believed: whether what has ended by this clock may go for good.
    """

    _folder: Path
    _now_ms: Callable[[], int]
    _is_clock_believed: Callable[[], bool] = lambda: True

    def make(self, uses: int, days: float) -> str:
        """A new invite, good for so many clients and days. What has ended is removed at this occasion.

        Raises:
            StoreError: the folder cannot be written.
        """
        invite = secrets.token_hex(_INVITE_BYTES)
        ends_ns = (self._now_ms() + int(days * DAY_MS)) * 1_000_000
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            ended = [path for path in self._folder.iterdir() if not self._is_open(path)]
            if ended and self._is_clock_believed():
                for path in ended:
                    path.unlink()
            for use in range(uses):
                path = self._folder / f"{_name(invite)}.{use}"
                path.touch(mode=0o600, exist_ok=False)
                os.utime(path, ns=(ends_ns, ends_ns))
        except OSError as error:
            raise StoreError(f"the folder of invites failed, see to its disk and permissions: {error}") from error
        return invite

    def redeem(self, invite: str) -> bool:
        """Use the invite for one client; False if it does not exist, has ended, or was used as often as it may be.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            for path in self._folder.glob(f"{_name(invite)}.*"):
                if self._is_open(path):
                    path.unlink()
                    return True
        except OSError as error:
            raise StoreError(f"the folder of invites failed, see to its disk and permissions: {error}") from error
        return False

    def _is_open(self, path: Path) -> bool:
        return path.stat().st_mtime_ns > self._now_ms() * 1_000_000


def _name(invite: str) -> str:
    return sha256(invite.encode()).hexdigest()
