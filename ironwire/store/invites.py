"""The invites of a server that takes whom it does not know only with one: a folder of empty files.

There is a file for each use, named by the hash of the invite; its time of change is when the invite ends. To use one is
to rename a file, which succeeds for one client alone, crash or not; it stays until the invite has ended, so that who
brings a spent invite is told so. Whoever reads the folder learns no invite.
"""

import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal

from attrs import define

from ironwire.errors import StoreError

INVITES = "invites"
"""The folder's name in the data folder."""

DAY_MS = 86_400_000
_INVITE_BYTES = 16
_USED = ".used"


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
            raise _failed(error) from error
        return invite

    def redeem(self, invite: str) -> Path | Literal["spent", "unknown"]:
        """Use the invite for one client. Returns the use, which `put_back` undoes; or that the invite is spent, because
        it was used as often as it may be or has ended; or that there is none of that name.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            uses = list(self._folder.glob(f"{_name(invite)}.*"))
            for path in uses:
                if path.suffix != _USED and self._is_open(path):
                    return path.rename(path.with_name(path.name + _USED))
        except OSError as error:
            raise _failed(error) from error
        return "spent" if uses else "unknown"

    def put_back(self, use: Path) -> None:
        """The use came to nothing, so the invite is good for it again.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            use.rename(use.with_suffix(""))
        except OSError as error:
            raise _failed(error) from error

    def _is_open(self, path: Path) -> bool:
        return path.stat().st_mtime_ns > self._now_ms() * 1_000_000


def _failed(error: OSError) -> StoreError:
    return StoreError(f"the folder of invites failed, see to its disk and permissions: {error}")


def _name(invite: str) -> str:
    return sha256(invite.encode()).hexdigest()
