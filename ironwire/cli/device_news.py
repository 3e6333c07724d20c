"""What the user of a device is told about other devices, by `chat` and `listen`.

Of this identity: whoever has stolen its key can link a device of their own. A server cannot hide that from a device
that asks for the log, so each tells its user once of every device that it did not know.

Of somebody else: a line in the conversation, and a warning where the server contradicts what it has shown before.

    identity.key.peers    {"<client id>": [<index>, "<hash>"]}: the newest entry of each log that was shown
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import trio
from attrs import frozen

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.devicebook import DeviceBook, DeviceNews, fingerprint, short_fingerprint
from ironwire.cli.notes import Notes
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import now, when
from ironwire.cli.shared_books import bring_together
from ironwire.crypto.signing import parse_public_key
from ironwire.errors import ConfigError, InvalidLogEntry, InvalidPublicKey
from ironwire.ids import ClientId, parse_client_id
from ironwire.protocol.devices.log_entry import LogHead, LogOp

_MOST_LINES = 5
"""About the devices of somebody else, at a time."""

_DEEDS = {
    LogOp.ADD: "linked a device",
    LogOp.REMOVE: "revoked a device",
    LogOp.SNAPSHOT: "has begun anew, on another device",
}


@frozen
class NewsSource:
    """Of the device `client`, whose key file is at `key`."""

    _client: iw.Client
    _key: Path

    async def take(self, *, is_changed: bool) -> list[str]:
        """What the user was not told yet of the own devices, a line each.

        Args:
            is_changed: the server says that the log is longer than before.
        """
        if self._client.device_log.device_key is None:
            return []
        try:
            log = self._client.device_log.known
            if is_changed:
                with trio.move_on_after(ANSWER_SECONDS):
                    log = await self._client.device_log.update()
            news = await trio.to_thread.run_sync(self._own_news, log)
        except (iw.ClientError, ConfigError) as error:
            return [str(error)]
        return [told(each) for each in news]

    async def take_names(self, book: AddressBook) -> None:
        """Have the names and marks in the book that another own device has just told.

        Raises:
            ConfigError: a file cannot be read or written.
            ClientError: what was changed here cannot be kept.
        """
        await bring_together(self._client, self._key)
        await trio.to_thread.run_sync(book.refresh)

    async def take_of(self, peer: ClientId, label: str) -> list[str]:
        """What the user was not told yet of the devices of `peer`, a line each. The first look tells nothing.

        Raises:
            DeviceLogDisputed: the server shows another log than before.
            ClientError: it shows none.
            ConfigError: what was shown before cannot be read or written.
        """
        try:
            known = iw.DeviceLog(parse_public_key(peer))
        except InvalidPublicKey:
            return []  # an id that nobody can have
        verdict = await self._client.device_log.read(peer, known)
        if not isinstance(verdict, iw.Extended):
            raise iw.DeviceLogDisputed(_disputed(label))
        return await trio.to_thread.run_sync(self._peer_news, peer, label, verdict.log)

    def _own_news(self, log: iw.DeviceLog) -> list[DeviceNews]:
        return DeviceBook.beside(self._key).take_news(log, self._client.device_log.device_key)

    def _peer_news(self, peer: ClientId, label: str, log: iw.DeviceLog) -> list[str]:
        notes = Notes(
            self._key.with_name(f"{self._key.name}.peers"), "heads of device logs", _parse_head, LogHead.to_json
        )
        known = notes.read().get(peer)
        head = log.head
        if head is None and known is None:
            return []
        if known is not None and (head is None or log.compare(known) not in ("same", "older")):
            raise iw.DeviceLogDisputed(_disputed(label))
        if head is not None and known != head:
            with notes.changing() as heads:
                heads[peer] = head
        return [] if known is None else [*_peer_lines(label, log, known)][-_MOST_LINES:]


def _peer_lines(label: str, log: iw.DeviceLog, known: LogHead) -> Iterator[str]:
    for signed in log.entries:
        if signed.index > known.index:
            yield f"{label} {_DEEDS[signed.entry.op]} {_at(signed.entry.time_ms)}"


def _disputed(label: str) -> str:
    return (
        f"the server shows other devices of {label} than before, and only {label} could have changed them: compare your"
        " safety numbers, and do not trust this server"
    )


def told(news: DeviceNews) -> str:
    """One line about an own device, with what to do if it is a stranger's."""
    label = news.name or f"A new device ({fingerprint(news.key)[:9]})"
    deeds = []
    if news.linked_ms is not None:
        deeds.append(f"linked {_at(news.linked_ms)}")
    if news.revoked_ms is not None:
        deeds.append(f"revoked {_at(news.revoked_ms)}")
    line = f"{label} was {' and '.join(deeds)}."
    if news.revoked_ms is not None:
        return f"{line} Not you? Then somebody else has your identity's key."
    return f"{line} Not you? ironwire device revoke {shlex.quote(news.name or short_fingerprint(news.key))}"


def _at(unix_ms: int) -> str:
    at = when(unix_ms)
    return f"at {at:%H:%M}" if at.date() == now().date() else f"on {at:%Y-%m-%d} at {at:%H:%M}"


def _parse_head(client: str, head: object) -> tuple[str, LogHead]:
    try:
        return parse_client_id(client), LogHead.from_json(head)
    except InvalidLogEntry as error:
        raise ValueError(str(error)) from None
