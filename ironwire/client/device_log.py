"""The device logs of this client and of others, next to those that the server shows (docs/protocol.md, section 9).

    catch_up           the own log: takes what is new, gives the server back what it has lost, adds this device
    add, revoke, only  change it
    read_log           somebody's log, compared with what is known of it

Rule: nothing is taken but what extends the known log. Two entries that contradict each other are kept and stop the
client: somebody else signs with its key.
"""

import time
from typing import Protocol, TypeVar

import trio
from attrs import define

from ironwire.client.connection.outgoing import AskedAnswer
from ironwire.client.errors import DeviceLogDisputed, KeystoreError, NotTheProtocol, Refused, SessionEnded
from ironwire.client.store.device_keys import DeviceKeys, KeptLog
from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import PublicKey, parse_public_key
from ironwire.e2e.conversations.effects import Inquiry, Steps
from ironwire.e2e.conversations.logs import reading
from ironwire.errors import InvalidLogEntry
from ironwire.ids import ClientId
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry, sign_entry
from ironwire.protocol.devices.log_reader import Extended, Forked, KeyCopied, RolledBack, Verdict
from ironwire.wire.messages import Accepted, ClientMessage, DeviceLogAppend, DeviceLogPage, DeviceLogRead, Error

T = TypeVar("T")

ATTEMPTS = 10
"""Other devices may change the log at the same time, and win; more often than this is the server's doing."""


@define(eq=False)
class OwnDeviceLog:
    """`Client.device_log`. What it asks waits through reconnections."""

    _server: "Asker"
    _kept: KeptLog | None

    @property
    def known(self) -> DeviceLog:
        """The own log, as far as it is known here.

        Raises:
            KeystoreError: this client was given neither device keys nor a log.
        """
        return self._own.log

    @property
    def device_key(self) -> str | None:
        """The key of this device in hex; None if it has none of its own."""
        return self._kept.key.public_key.raw.hex() if isinstance(self._kept, DeviceKeys) else None

    async def update(self) -> DeviceLog:
        """The own log, after what the server has more of it; the server gets what it has lost.

        Raises:
            KeystoreError: as `known` says; or what is new cannot be kept.
            DeviceLogDisputed: entries of the log contradict each other.
            Refused, NotTheProtocol, SessionEnded, AuthenticationRefused: as `read` says.
        """
        await _agree(self._server, self._own)
        return self._own.log

    async def read(self, client: ClientId, known: DeviceLog | None = None) -> Verdict:
        """Compare the log of a client that the server shows with what is `known` of it, or with nothing.

        Raises:
            Refused: the server answered with an error.
            NotTheProtocol: what it shows is no device log.
            SessionEnded, AuthenticationRefused: the client has stopped.
        """
        return await read_log(self._server, known or DeviceLog(parse_public_key(client)))

    async def add(self, device_key: str) -> None:
        """Add a linked device by its key in hex: it may be a device of this client from now on.

        Raises:
            KeystoreError: this client does not have its identity's key, or cannot keep what it has signed.
            DeviceLogDisputed: entries of the log contradict each other.
            Refused, NotTheProtocol, SessionEnded, AuthenticationRefused: as above; `quota`, there are too many, or the
                device was removed before.
        """
        await add(self._server, self._own, parse_public_key(device_key), _now_ms())

    async def revoke(self, device_key: str) -> None:
        """Remove a device of this client by its key in hex: it is put out, and stays out.

        Raises as `add` does; `SessionEnded` with 4403, it was this device.
        """
        await revoke(self._server, self._own, parse_public_key(device_key), _now_ms())

    async def only(self, device_key: str) -> None:
        """Make one owner device, by its key in hex, the only device of this client, and remove all others: for a client
        that has lost them. Raises as `add` does.
        """
        await only(self._server, self._own, parse_public_key(device_key), _now_ms())

    @property
    def _own(self) -> KeptLog:
        if self._kept is None:
            raise KeystoreError("this client has no device keys: open them beside the identity first")
        return self._kept


class Asker(Protocol):
    """A way to ask the server: one session, or the client over all its sessions."""

    async def ask(self, message: ClientMessage, kind: type[AskedAnswer]) -> AskedAnswer: ...


async def read_log(server: Asker, known: DeviceLog) -> Verdict:
    """Compare the log of `known.client` that the server shows with what is known of it.

    Raises:
        Refused: the server answered with an error.
        NotTheProtocol: what it shows is no device log.
    """
    try:
        verdict = await _carry_out(server, reading(known))
    except InvalidLogEntry as error:
        raise NotTheProtocol(f"the server shows what is no device log: {error}") from None
    if isinstance(verdict, Error):
        raise Refused(verdict.msg, verdict.detail, verdict.user, verdict.retry_after_ms)
    return verdict


async def _carry_out(server: Asker, steps: Steps[T]) -> T:
    """Ask what the reading of a log asks."""
    page: DeviceLogPage | Error | None = None
    while True:
        try:
            step = steps.send(page)
        except StopIteration as done:
            result: T = done.value
            return result
        if not isinstance(step, Inquiry) or not isinstance(step.question, DeviceLogRead):
            raise NotTheProtocol("a log is read by its own verb alone")
        page = await _page(server, step.question)


async def _page(server: Asker, question: DeviceLogRead) -> DeviceLogPage | Error:
    try:
        return await server.ask(question, DeviceLogPage)
    except Refused as refused:
        return Error(refused.code, refused.detail, refused.user, refused.retry_after_ms)


async def catch_up(server: Asker, keys: DeviceKeys, now_ms: int) -> None:
    """Bring the own log here and at the server together, and add this device to it. Only signed entries travel: a
    server that was restored from a backup gets its revocations back.

    Raises:
        DeviceLogDisputed: entries contradict each other.
        SessionEnded: 4403, this device was removed.
        Refused, NotTheProtocol, KeystoreError: it cannot be done.
    """
    if keys.replaced is not None:
        await revoke(server, keys, keys.replaced, now_ms)
        await trio.to_thread.run_sync(keys.forget_replaced)
    own = keys.key.public_key
    for _ in range(ATTEMPTS):
        await _agree(server, keys)
        standing = keys.log.standing_of(own)
        if standing == "removed":
            raise SessionEnded(CloseCode.REMOVED, "this device was revoked")
        if standing == "current" or await _append_own(server, keys, LogOp.ADD, own, now_ms, is_owner=True):
            return
    raise _unsettled()


async def add(server: Asker, kept: KeptLog, device: PublicKey, now_ms: int) -> None:
    """Add a linked device to its client's log; one that is in it stays as it is. Raises as `catch_up`."""
    for _ in range(ATTEMPTS):
        await _agree(server, kept)
        if kept.log.standing_of(device) == "current" or await _append_own(server, kept, LogOp.ADD, device, now_ms):
            return
    raise _unsettled()


async def revoke(server: Asker, kept: KeptLog, device: PublicKey, now_ms: int) -> None:
    """Remove a device of this client from its log; a device that is not in it stays out. Raises as `catch_up`."""
    for _ in range(ATTEMPTS):
        await _agree(server, kept)
        if kept.log.standing_of(device) != "current":
            return
        if await _append_own(server, kept, LogOp.REMOVE, device, now_ms):
            return
    raise _unsettled()


async def only(server: Asker, kept: KeptLog, device: PublicKey, now_ms: int) -> None:
    """Remove every device of this client but one, an owner. Raises as `catch_up`."""
    for _ in range(ATTEMPTS):
        await _agree(server, kept)
        if await _append_own(server, kept, LogOp.SNAPSHOT, device, now_ms, is_owner=True):
            return
    raise _unsettled()


async def _agree(server: Asker, kept: KeptLog) -> None:
    """Take what is new, and give back what the server does not have."""
    for _ in range(ATTEMPTS):
        match await read_log(server, kept.log):
            case Extended(log, news):
                if news:
                    await trio.to_thread.run_sync(kept.keep, log)
                return
            case RolledBack(_, theirs):
                first = 0 if theirs is None else theirs.index + 1
                for signed in kept.log.entries[first - kept.log.first_index :]:
                    if not await _append(server, signed):
                        break
            case Forked(evidence) | KeyCopied(evidence):
                path = await trio.to_thread.run_sync(kept.keep_evidence, evidence)
                raise DeviceLogDisputed(
                    "two entries of this client's device log contradict each other, and both are signed with its key:"
                    f" somebody else may have it. They are kept in {path}"
                )
    raise _unsettled()


async def _append_own(
    server: Asker, kept: KeptLog, op: LogOp, device: PublicKey, now_ms: int, *, is_owner: bool = False
) -> bool:
    """Sign the next entry and send it; or one that was signed for its place and had no answer. False: the log has moved
    meanwhile, or another entry went.
    """
    try:
        entry = kept.log.next_entry(op, [device], time_ms=now_ms, is_owner=is_owner)
    except InvalidLogEntry as error:
        raise Refused("quota", str(error)) from None
    if kept.unanswered is None:
        await trio.to_thread.run_sync(kept.keep, kept.log, sign_entry(kept.identity, entry))
    signed = kept.unanswered
    if signed is None or not await _append(server, signed):
        return False
    await trio.to_thread.run_sync(kept.keep, kept.log.append(signed))
    return (signed.entry.op, signed.entry.devices) == (op, (device,))


async def _append(server: Asker, signed: SignedEntry) -> bool:
    """Whether the server has the entry now; False: another one is in its place, or one before it is missing."""
    try:
        await server.ask(DeviceLogAppend(signed.entry.encode().hex(), signed.signature.hex()), Accepted)
    except Refused as refused:
        if refused.code == "conflict":
            return False
        raise
    return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _unsettled() -> NotTheProtocol:
    return NotTheProtocol("the server takes no entry of the device log, and shows none that came before it")
