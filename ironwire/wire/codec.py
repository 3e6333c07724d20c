"""JSON text <-> messages: the only converter there is (docs/protocol.md, section 1).

Every fault of a frame is raised as one exception, `InvalidMessage`. `strict.py` has the rules of the fields; this
module has the frame around them, in both directions.

Rule: frames of a client are closed, frames of the server are open. A client that misspells a key gets an error; a
server that sends more than this client knows is understood.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import orjson

from ironwire.errors import InvalidMessage, UnknownVerb
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, is_group
from ironwire.wire import messages as msg
from ironwire.wire.messages.fields import SAFE_INTEGER
from ironwire.wire.strict import Fault, Hook, shown, strict_converter

T = TypeVar("T")

Sendable = msg.Text | msg.File | msg.Receipt
Delivered = msg.DeliveredText | msg.DeliveredFile | msg.DeliveredReceipt

ClientFrame = tuple[msg.ClientMessage, MessageId | None, int | None]
"""A frame from a client: the message, the id that the reply carries, and the number that its device gave it."""


class ServerFrame(NamedTuple):
    """A frame from the server. Without `id` it is a push; `seq` numbers what came from the device's mailbox."""

    message: msg.ServerMessage
    id: MessageId | None
    seq: int | None


class _WhenNeeded(dict[type[Any], T]):
    """Makes a class's converter on first use, which takes up to 10 ms. A command needs two or three; a server makes
    them all before it has clients (`prepare`).
    """

    def __init__(self, make: Callable[[type[Any]], T]) -> None:
        self._make = make

    def __missing__(self, cls: type[Any]) -> T:
        converter = self[cls] = self._make(cls)
        return converter


_converter = strict_converter()
_message_id: Hook = _converter.get_structure_hook(MessageId)
_client_message_of: _WhenNeeded[Hook] = _WhenNeeded(_converter.get_structure_hook)
_server_message_of: _WhenNeeded[Hook] = _WhenNeeded(strict_converter(is_open=True).get_structure_hook)
_payload_of: _WhenNeeded[Callable[[Any], dict[str, Any]]] = _WhenNeeded(_converter.get_unstructure_hook)


def prepare() -> None:
    """Make every converter that a server needs, so that the first use of a verb keeps nobody waiting."""
    for request in msg.CLIENT_MESSAGES:
        _client_message_of[request]
    for answer in msg.SERVER_MESSAGES:
        _payload_of[answer]


# --- decoding --------------------------------------------------------------------------------------------------------


_CLIENT_VERBS: dict[str, type[Any]] = {cls.verb: cls for cls in msg.CLIENT_MESSAGES}
_SERVER_VERBS: dict[str, type[Any]] = {cls.verb: cls for cls in msg.SERVER_MESSAGES}
_NUMBERED_VERBS: dict[str, type[Any]] = {cls.verb: cls for cls in msg.DELIVERIES}
_FLAT = msg.AuthChallenge.verb
"""The one verb whose fields stand beside `type`: the seed protocol made it so."""


def decode_client(text: str | bytes) -> ClientFrame:
    """The message in a frame that a client sent.

    Raises:
        InvalidMessage: the frame has a fault; a reply `error invalid` is due (section 1).
    """
    if type(text) is bytes:
        raise InvalidMessage("binary frames are not part of the protocol")
    frame = _load(text)
    n = _number(frame) if "n" in frame else None
    message_id = _id(frame.pop("id"), n) if "id" in frame else None
    kind = frame.get("type")
    cls = _CLIENT_VERBS.get(kind) if type(kind) is str else None
    if cls is None:
        raise _no_verb(frame, InvalidMessage, message_id, n)
    payload = frame.pop("payload", {})
    if len(frame) > 1:
        unknown = next(key for key in frame if key != "type")
        raise InvalidMessage(f"{shown(unknown)} is not a key of a frame", message_id, n)
    if n is not None and cls not in msg.NUMBERED:
        raise InvalidMessage(f"n numbers a text, a file or a receipt, not {shown(cls.verb)}", message_id, n)
    try:
        return _client_message_of[cls](payload, None), message_id, n
    except Fault as fault:
        raise InvalidMessage(f"payload{fault.where} {fault.what}", message_id, n) from None


def decode_server(text: str | bytes) -> ServerFrame:
    """The message in a frame that the server sent: as strict as the other direction, except that unknown keys are
    ignored. A frame with a number must have a known verb, because its ack would lose it.

    Raises:
        UnknownVerb: to be ignored.
        InvalidMessage: the server does not speak this protocol.
    """
    frame = _load(text)
    message_id = _id(frame["id"]) if "id" in frame else None
    is_push, seq, kind = "seq" not in frame, frame.get("seq"), frame.get("type")
    if not is_push and (type(seq) is not int or not 0 < seq <= SAFE_INTEGER):
        raise InvalidMessage("seq must be an integer above 0", message_id)
    cls = (_SERVER_VERBS if is_push else _NUMBERED_VERBS).get(kind) if type(kind) is str else None
    if cls is None:
        raise _no_verb(frame, UnknownVerb if is_push else InvalidMessage, message_id)
    payload = frame if cls is msg.AuthChallenge else frame.get("payload", {})
    try:
        return ServerFrame(_server_message_of[cls](payload, None), message_id, seq)
    except Fault as fault:
        raise InvalidMessage(f"payload{fault.where} {fault.what}", message_id) from None


def _load(text: str | bytes) -> dict[str, Any]:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"not JSON: {error.msg} at character {error.pos}", *_named_in(text)) from None
    if type(frame) is not dict:
        raise InvalidMessage("a frame must be one JSON object")
    return frame


def _named_in(text: str | bytes) -> tuple[MessageId | None, int | None]:
    """The id and the number in a text that orjson refuses and a more lenient parser takes. A client that writes half a
    surrogate pair thus learns which of its messages is refused.
    """
    try:
        frame = json.loads(text)
        if type(frame) is not dict:
            return None, None
        n = _number(frame) if "n" in frame else None
        return _id(frame["id"]) if "id" in frame else None, n
    except (ValueError, RecursionError, InvalidMessage):
        return None, None


def _no_verb(
    frame: Mapping[str, Any], unknown: type[InvalidMessage], message_id: MessageId | None, n: int | None = None
) -> InvalidMessage:
    """The fault of a frame whose `type` is none of the verbs; `unknown`, where it could be one."""
    kind = frame.get("type")
    if type(kind) is str:
        return unknown(f"type {shown(kind)} is not a verb", message_id, n)
    return InvalidMessage("type must be a string" if "type" in frame else "type is missing", message_id, n)


def _id(value: Any, n: int | None = None) -> MessageId:
    try:
        message_id: MessageId = _message_id(value, MessageId)
    except Fault as fault:
        raise InvalidMessage(f"id {fault.what}", n=n) from None
    return message_id


def _number(frame: dict[str, Any]) -> int:
    n = frame.pop("n")
    if type(n) is not int or not 0 < n <= SAFE_INTEGER:
        raise InvalidMessage("n must be an integer above 0", _id(frame["id"]) if "id" in frame else None)
    return n


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(
    message: msg.ClientMessage | msg.ServerMessage,
    id: MessageId | None = None,  # noqa: A002  # the key's name
    n: int | None = None,
) -> bytes:
    """One frame's JSON, compact, keys in the order of the protocol document; absent values are left out."""
    payload = _payload_of[type(message)](message)
    frame: dict[str, Any] = {"type": message.verb}
    if id is not None:
        frame["id"] = id
    if n is not None:
        frame["n"] = n
    if message.verb == _FLAT:
        frame.update(payload)
    elif payload:
        frame["payload"] = payload
    return _dumps(frame)


def relayed_text(sender: ClientId, text: str) -> bytes:
    """The frame of `DeliveredText(sender, text)`, as `encode` would write it, in a fifth of the time: relays write
    hardly anything else.
    """
    return b'{"type":"text","payload":{"from":"%b","text":%b}}' % (sender.encode(), orjson.dumps(text))


def accepted(ts: int, id: MessageId) -> bytes:  # noqa: A002  # the key's name
    """The frame of `Accepted(ts)` with its `id`, as `encode` would write it, in a sixth of the time."""
    return b'{"type":"accepted","id":%b,"payload":{"ts":%d}}' % (orjson.dumps(id), ts)


def text_payload(
    sender: ClientId, text: str, ts: int, device: DeviceId | None = None, group: GroupId | None = None
) -> bytes:
    """The payload of a `DeliveredText`, as `encode_payload` would write it, in a fifth of the time."""
    # Client, device and group ids hold nothing that JSON escapes.
    rest = "" if device is None else f',"device":"{device}"'
    if group is not None:
        rest += f',"group":"{group}"'
    return b'{"from":"%b","text":%b,"ts":%d%b}' % (sender.encode(), orjson.dumps(text), ts, rest.encode())


def encode_payload(message: msg.ServerMessage) -> bytes:
    """The payload of a delivery alone. The store keeps it, so `frame_text` need not encode it for every mailbox."""
    return _dumps(_payload_of[type(message)](message))


def _dumps(value: dict[str, Any]) -> bytes:
    # Copy: orjson shrinks a 1 KiB buffer in place; keeping hundreds of shrunken buffers slows later `dumps` calls from
    # 0.5 to 2.7 µs.
    return b"%b" % orjson.dumps(value)


def stored_payload(message: Sendable, sender: ClientId, ts: int, device: DeviceId | None) -> bytes:
    """The payload of the delivery: the store keeps it, and devices get it."""
    if type(message) is msg.Text:
        return text_payload(sender, message.text, ts, device, _group_of(message))
    return encode_payload(delivered(message, sender, ts, device))


def live_frame(message: Sendable, sender: ClientId) -> bytes:
    """The frame for a session without a mailbox: without time and device, as the seed protocol has it."""
    if type(message) is msg.Text and not is_group(message.to):
        return relayed_text(sender, message.text)
    return encode(delivered(message, sender))


def delivered(message: Sendable, sender: ClientId, ts: int | None = None, device: DeviceId | None = None) -> Delivered:
    group = _group_of(message)
    match message:
        case msg.Text():
            return msg.DeliveredText(sender, message.text, ts, device, group=group)
        case msg.Receipt():
            return msg.DeliveredReceipt(sender, message.ids, message.state, ts, device)
        case msg.File():
            return msg.DeliveredFile(
                sender=sender,
                url=message.url,
                kind=message.kind,
                name=message.name,
                mime=message.mime,
                size=message.size,
                sha256=message.sha256,
                duration_ms=message.duration_ms,
                width=message.width,
                height=message.height,
                waveform=message.waveform,
                caption=message.caption,
                ts=ts,
                device=device,
                group=group,
            )


def _group_of(message: Sendable) -> GroupId | None:
    return GroupId(message.to) if is_group(message.to) else None


def frame_text(verb: str, payload: bytes, *, id: MessageId | None, seq: int) -> bytes:  # noqa: A002  # the key's name
    """The frame that delivers an encoded payload from a mailbox (section 5)."""
    named = b"" if id is None else b',"id":' + orjson.dumps(id)
    return b'{"type":"%b","seq":%d%b,"payload":%b}' % (verb.encode(), seq, named, payload)


def archived_text(verb: str, payload: bytes, *, id: MessageId | None) -> bytes:  # noqa: A002  # the key's name
    """One envelope of the history, from its encoded payload: an `ArchivedEnvelope` (section 7.1)."""
    named = b"" if id is None else b'"id":' + orjson.dumps(id) + b","
    return b'{%b"%b":%b}' % (named, verb.encode(), payload)


def history_text(
    peer: Address,
    envelopes: list[bytes],
    before: int | None,
    id: MessageId | None,  # noqa: A002  # the key's name
) -> bytes:
    """The frame of a `HistoryPage` whose envelopes are encoded already (section 7.1)."""
    named = b"" if id is None else b',"id":' + orjson.dumps(id)
    more = b"" if before is None else b',"before":%d' % before
    return b'{"type":"history"%b,"payload":{"with":"%b","envelopes":[%b]%b}}' % (
        named,
        peer.encode(),
        b",".join(envelopes),
        more,
    )
