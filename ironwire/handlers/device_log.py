"""Device logs: pages of them for everybody, and entries from their own clients (docs/protocol.md, section 9).

A signature says that an entry is its client's; the store says whether it follows on the last one. What an entry removes
ends with its commit: mailboxes in the same batch, sessions before anything is told that was committed later.
"""

from collections.abc import Callable
from functools import partial

from attrs import evolve, frozen

from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import parse_public_key
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Ending
from ironwire.errors import InvalidLogEntry
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, MessageId
from ironwire.limits import LOG_ENTRIES
from ironwire.protocol.devices.log_entry import SignedEntry, open_entry
from ironwire.store.contract import operations as op
from ironwire.store.contract.device_log import LogPage
from ironwire.store.contract.records import Envelope
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode, encode_payload
from ironwire.wire.messages.fields import ErrorCode

REVOKED = Ending(CloseCode.REMOVED, "this device was revoked")

NO_LOG = msg.Error("not_found", detail="this client has no device log")


@frozen
class DeviceLogHandler:
    """Answers clients about device logs."""

    _hub: Hub
    _delivery: Delivery
    _store: Store
    _now_ms: Callable[[], int]

    @verb_handler
    async def read(self, endpoint: Endpoint, request: msg.DeviceLogRead, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        page = await self._store.device_log(request.client, first=request.first, limit=LOG_ENTRIES)
        return reply(endpoint, NO_LOG if page is None else _page(request, page), id_)

    @verb_handler
    async def append(self, endpoint: Endpoint, request: msg.DeviceLogAppend, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        client, device = endpoint.principal.client, endpoint.principal.device
        try:
            entry = _opened(client, request)
        except InvalidLogEntry as error:
            return reply(endpoint, msg.Error("invalid", detail=str(error)), id_)
        now, head = self._now_ms(), entry.head
        told = msg.DeviceLogChanged(client, head.index, head.hash.hex())
        payload = encode_payload(evolve(told, ts=now, device=device))
        envelope = Envelope(told.verb, client, device, client, None, now, payload)

        def logged(result: op.Logged) -> None:
            # Before sessions are closed: it may be this very session that ends now.
            reply(endpoint, msg.Accepted(now, index=head.index), id_)
            for removed in result.removed:
                session = self._hub.device_session(client, removed)
                if session is not None:
                    session.outbox.close(REVOKED)

        result = await self._delivery.append_to_log(op.AppendToLog(envelope, entry), partial(encode, told), logged)
        if isinstance(result, op.Logged):
            return None
        return reply(endpoint, _answer(result, now, head.index), id_)


def _opened(client: ClientId, request: msg.DeviceLogAppend) -> SignedEntry:
    try:
        entry = bytes.fromhex(request.entry)
    except ValueError:
        raise InvalidLogEntry("the entry has half a byte") from None
    return open_entry(parse_public_key(client), entry, bytes.fromhex(request.sig))


def _answer(result: op.Result, now_ms: int, index: int) -> msg.Accepted | msg.Error:
    """The answer to an entry that was not put into the log."""
    match result:
        case op.AlreadyLogged():
            return msg.Accepted(now_ms, duplicate=True, index=index)
        case op.LogMoved(head):
            due = 0 if head is None else head.index + 1
            detail = f"the next entry has index {due}, and follows on the last one of the log"
            return msg.Error("conflict", detail=detail)
        case op.LogRefused(detail):
            return msg.Error("invalid", detail=detail)
        case op.TooManyDevices():
            return msg.Error("quota", detail="this client has as many devices as one may: remove one first")
        case _:
            return msg.Error("internal", detail="the entry could not be stored")


def _page(request: msg.DeviceLogRead, page: LogPage) -> msg.DeviceLogPage:
    entries = [msg.LoggedEntry(kept.entry.hex(), kept.signature.hex()) for kept in page.entries]
    is_more = bool(entries) and request.first + len(entries) <= page.head.index
    return msg.DeviceLogPage(request.client, entries, page.head.index, page.head.hash.hex(), is_more)
