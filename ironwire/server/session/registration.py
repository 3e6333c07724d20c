"""Admission of clients that the server does not know yet: anybody, those on a list, or those who bring an invite.

A client is known once it has a registered device; it stays known until its last device is removed or expires, whatever
becomes of the list. An invite is good for one client each time: it makes a device known, so a client needs a device to
use it. Both are files that the operator writes while the server runs, small enough to be looked at inline, and only
for those who are new and have proven their key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import structlog
from attrs import define, field

from ironwire.errors import InvalidId, StoreError
from ironwire.ids import ClientId, parse_client_id
from ironwire.store.invites import Invites

Refusal = Literal["not listed", "no invite", "unknown invite", "spent invite"]

_log = structlog.get_logger(__name__)


@define(eq=False)
class AllowList:
    """A file with a client id on each line; what follows a `#` is for people. It is read again when it has changed.

    A line that is no client id is named in the log and lets nobody in. While the file cannot be read, the list as it
    was last read holds.
    """

    _path: Path
    _clients: frozenset[ClientId] = field(init=False, default=frozenset())
    _version: tuple[int, int, int] | None = field(init=False, default=None)

    def __contains__(self, client: ClientId) -> bool:
        self._refresh()
        return client in self._clients

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._clients = frozenset(self._parse(self._path.read_text(encoding="utf-8-sig")))
                self._version = version
        except (OSError, UnicodeDecodeError) as error:
            _log.error("the allow-list cannot be read", file=str(self._path), reason=str(error))

    def _parse(self, text: str) -> list[ClientId]:
        clients = []
        for number, line in enumerate(text.splitlines(), start=1):
            written = line.partition("#")[0].strip()
            if not written:
                continue
            try:
                clients.append(parse_client_id(written.lower()))
            except InvalidId as error:
                _log.error(
                    "a line of the allow-list is no client", file=str(self._path), line=number, reason=str(error)
                )
        return clients


@define(eq=False)
class Registration:
    """The operator's policy for new clients."""

    _policy: Literal["open", "allow-list", "invite"]
    _allow_list: AllowList | None
    _invites: Invites

    @property
    def is_open(self) -> bool:
        """Whether everybody is admitted."""
        return self._policy == "open"

    def admits(self, client: ClientId) -> bool:
        """Whether a client without a registered device is admitted without an invite."""
        return self.is_open or (self._allow_list is not None and client in self._allow_list)

    @property
    def refusal(self) -> Refusal:
        """The reason against a client that is not admitted and brings no invite."""
        return "no invite" if self._policy == "invite" else "not listed"

    @contextmanager
    def invited(self, invite: str | None) -> Iterator[Refusal | None]:
        """Why an invite does not let its client in; None if it does. It is used up then, unless the block raises
        `StoreError`, because the client has got nothing for it.
        """
        if self._policy != "invite" or invite is None:
            yield self.refusal
            return
        match self._invites.redeem(invite):
            case "spent":
                yield "spent invite"
            case "unknown":
                yield "unknown invite"
            case use:
                try:
                    yield None
                except StoreError:
                    self._invites.put_back(use)
                    raise
