"""JSON text <-> messages: the only converter there is (docs/protocol.md, section 1).

Whatever is wrong with a frame comes out as one exception, `InvalidMessage`. What a field may hold is said in
`strict.py`; here is the frame around it, in both directions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import orjson

from ironwire.errors import InvalidId, InvalidMessage
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, parse_message_id
from ironwire.wire.constraints import SAFE_INTEGER
from ironwire.wire.messages import (
    CLIENT_MESSAGES,
    DELIVERIES,
    SERVER_MESSAGES,
    AuthChallenge,
    ClientMessage,
    ServerMessage,
)
from ironwire.wire.strict import Fault, Hook, shown, strict_converter

T = TypeVar("T")

ClientFrame = tuple[ClientMessage, MessageId | None]
"""A frame from a client: the message, and the id that the reply carries."""


class ServerFrame(NamedTuple):
    """A frame from the server. Without `id` it is a push; `seq` numbers what came from the device's mailbox."""

    message: ServerMessage
    id: MessageId | None
    seq: int | None


class _WhenNeeded(dict[type[Any], T]):
    """Makes a class's converter when it is first asked for. To generate the code of all of them takes a tenth of a
    second, and a command says two or three verbs.
    """

    def __init__(self, make: Callable[[type[Any]], T]) -> None:
        self._make = make

    def __missing__(self, cls: type[Any]) -> T:
        converter = self[cls] = self._make(cls)
        return converter


_converter = strict_converter()
_message_of: _WhenNeeded[Hook] = _WhenNeeded(_converter.get_structure_hook)
_payload_of: _WhenNeeded[Callable[[Any], dict[str, Any]]] = _WhenNeeded(_converter.get_unstructure_hook)


# --- decoding --------------------------------------------------------------------------------------------------------


_CLIENT_VERBS: dict[str, type[Any]] = {cls.verb: cls for cls in CLIENT_MESSAGES}
_SERVER_VERBS: dict[str, type[Any]] = {cls.verb: cls for cls in SERVER_MESSAGES}
_NUMBERED = [cls.verb for cls in DELIVERIES]  # no set: what a peer sent as `type` may not be hashable
_FLAT = AuthChallenge.verb
"""The one verb whose fields stand beside `type`: the seed protocol made it so."""


def decode_client(text: str | bytes) -> ClientFrame:
    """The message in a frame that a client sent.

    Raises:
        InvalidMessage: for whatever is wrong with it; a reply `error invalid` is due (section 1).
    """
    if type(text) is bytes:
        raise InvalidMessage("binary frames are not part of the protocol")
    return _message(_load(text), _CLIENT_VERBS)


def decode_server(text: str | bytes) -> ServerFrame:
    """The message in a frame that the server sent; as strict as the other direction.

    Raises:
        InvalidMessage: the server does not speak this protocol, or a newer version of it.
    """
    frame = _load(text)
    if frame.get("type") == _FLAT:
        beside: dict[str, Any] = {key: frame.pop(key) for key in ("type", "id") if key in frame}
        frame = {**beside, "payload": frame}
    numbered = "seq" in frame and frame.get("type") in _NUMBERED
    seq = frame.pop("seq") if numbered else None
    message, message_id = _message(frame, _SERVER_VERBS)
    if numbered and (type(seq) is not int or not 0 < seq <= SAFE_INTEGER):
        raise InvalidMessage("seq must be an integer above 0", message_id)
    return ServerFrame(message, message_id, seq)


def _load(text: str | bytes) -> dict[str, Any]:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"not JSON: {error.msg} at character {error.pos}") from None
    if type(frame) is not dict:
        raise InvalidMessage("a frame must be one JSON object")
    return frame


def _message(frame: dict[str, Any], verbs: Mapping[str, type[Any]]) -> tuple[Any, MessageId | None]:
    """The content of `frame`, which is taken apart: what is left over beside `type` has no business there."""
    message_id = _id(frame.pop("id")) if "id" in frame else None
    kind = frame.get("type")
    cls = verbs.get(kind) if type(kind) is str else None
    if cls is None:
        raise InvalidMessage(_unknown_verb(frame), message_id)
    payload = frame.pop("payload", {})
    if len(frame) > 1:
        unknown = next(key for key in frame if key != "type")
        raise InvalidMessage(f"{shown(unknown)} is not a key of a frame", message_id)
    try:
        return _message_of[cls](payload, None), message_id
    except Fault as fault:
        raise InvalidMessage(f"payload{fault.where} {fault.what}", message_id) from None


def _id(value: Any) -> MessageId:
    if type(value) is not str:
        raise InvalidMessage("id must be a string")
    try:
        return parse_message_id(value)
    except InvalidId as error:
        raise InvalidMessage(f"id {error}") from None


def _unknown_verb(frame: Mapping[str, Any]) -> str:
    if "type" not in frame:
        return "type is missing"
    kind = frame["type"]
    return f"type {shown(kind)} is not a verb" if type(kind) is str else "type must be a string"


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(message: ClientMessage | ServerMessage, id: MessageId | None = None) -> bytes:  # noqa: A002  # the key's name
    """One frame's JSON, compact, keys in the order of the protocol document; absent values are left out."""
    payload = _payload_of[type(message)](message)
    frame: dict[str, Any] = {"type": message.verb}
    if id is not None:
        frame["id"] = id
    if message.verb == _FLAT:
        frame.update(payload)
    elif payload:
        frame["payload"] = payload
    return _dumps(frame)


def relayed_text(sender: ClientId, text: str) -> bytes:
    """The frame of `DeliveredText(sender, text)`, as `encode` would write it: a relay writes hardly anything else, and
    this is a fifth of the way.
    """
    return b'{"type":"text","payload":{"from":"%b","text":%b}}' % (sender.encode(), orjson.dumps(text))


def accepted(ts: int, id: MessageId) -> bytes:  # noqa: A002  # the key's name
    """The frame of `Accepted(ts)` with its `id`, as `encode` would write it in three times the time."""
    return _dumps({"type": "accepted", "id": id, "payload": {"ts": ts}})


def text_payload(
    sender: ClientId, text: str, ts: int, device: DeviceId | None = None, group: GroupId | None = None
) -> bytes:
    """The payload of a `DeliveredText`, as `encode_payload` would write it in five times the time."""
    payload: dict[str, str | int] = {"from": sender, "text": text, "ts": ts}
    if device is not None:
        payload["device"] = device
    if group is not None:
        payload["group"] = group
    return _dumps(payload)


def encode_payload(message: ServerMessage) -> bytes:
    """The payload of a delivery alone: the store keeps it, and `frame_text` need not encode it for every mailbox."""
    return _dumps(_payload_of[type(message)](message))


def _dumps(value: dict[str, Any]) -> bytes:
    """A copy of what orjson returns, which is cut short from a KiB. Where hundreds of those are kept, for a commit or a
    socket, to make the next one takes 2.7 µs, and 0.5 with the copy.
    """
    return b"%b" % orjson.dumps(value)


def frame_text(verb: str, payload: bytes, *, id: MessageId | None, seq: int) -> bytes:  # noqa: A002  # the key's name
    """The frame that delivers an encoded payload out of a mailbox (section 5)."""
    named = b"" if id is None else b',"id":' + orjson.dumps(id)
    return b'{"type":"%b","seq":%d%b,"payload":%b}' % (verb.encode(), seq, named, payload)


def archived_text(verb: str, payload: bytes, *, id: MessageId | None) -> bytes:  # noqa: A002  # the key's name
    """One envelope of the history, out of its encoded payload: an `ArchivedEnvelope` (section 7.1)."""
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
