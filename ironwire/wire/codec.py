"""JSON text <-> messages: the only converter there is (docs/protocol.md, section 1).

Nothing is coerced, nothing unknown is let through, and whatever is wrong with a frame comes out as one exception,
`InvalidMessage`. A valid frame pays nothing for the quality of the errors: cattrs generates straight-line code for each
class, and only an object that this code refused is looked at again, field by field, to say which one it was.
"""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import attrs
import orjson
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ironwire.errors import InvalidId, InvalidMessage
from ironwire.ids import (
    Address,
    CallId,
    ClientId,
    DeviceId,
    GroupId,
    MessageId,
    parse_address,
    parse_call_id,
    parse_client_id,
    parse_device_id,
    parse_group_id,
    parse_message_id,
)
from ironwire.wire.constraints import SAFE_INTEGER, Between, Chars, Items, Pattern
from ironwire.wire.messages import (
    CLIENT_MESSAGES,
    DELIVERIES,
    SERVER_MESSAGES,
    AuthChallenge,
    ClientMessage,
    ServerMessage,
    wire_key,
)

Hook = Callable[[Any, Any], Any]
"""A rule in cattrs' form: takes a JSON value and its type, returns what the field holds, raises `_Fault`."""


ClientFrame = tuple[ClientMessage, MessageId | None]
"""A frame from a client: the message, and the id that the reply carries."""


class ServerFrame(NamedTuple):
    """A frame from the server. Without `id` it is a push; `seq` numbers what came from the device's mailbox."""

    message: ServerMessage
    id: MessageId | None
    seq: int | None


class _Fault(Exception):
    """What is wrong with a value, and where inside it: each rule on its way out puts a step in front."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def inside(self, step: str) -> "_Fault":
        return _Fault(self.what, step + self.where)


# --- one strict rule for each type that a field can have -------------------------------------------------------------


def _exactly(kind: type, name: str) -> Hook:
    def check(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise _Fault(f"must be {name}")
        return value

    return check


def _integer(value: Any, _: Any) -> int:
    if type(value) is not int or not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        raise _Fault("must be an integer inside ±2^53")
    return value


def _identifier(parse: Callable[[str], Any]) -> Hook:
    def check(value: Any, _: Any) -> Any:
        if type(value) is not str:
            raise _Fault("must be a string")
        try:
            return parse(value)
        except InvalidId as error:
            raise _Fault(str(error)) from None

    return check


def _literal(kind: Any, _: Converter) -> Hook:
    allowed = get_args(kind)

    def check(value: Any, _: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise _Fault("must be one of " + ", ".join(allowed))
        return value

    return check


def _optional(kind: Any, converter: Converter) -> Hook:
    """An optional key may be left out; `null` is a value of a wrong type (section 1)."""
    present = tuple(each for each in get_args(kind) if each is not type(None))
    hook: Hook = converter.get_structure_hook(Union[present])  # noqa: UP007  # `|` cannot join a computed tuple
    return hook


def _list(kind: Any, converter: Converter) -> Hook:
    (item,) = get_args(kind)
    hook: Hook = converter.get_structure_hook(item)

    def check(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _Fault("must be a list")
        structured: list[Any] = []
        for each in value:
            try:
                structured.append(hook(each, item))
            except _Fault as fault:
                raise fault.inside(f"[{len(structured)}]") from None
        return structured

    return check


def _annotated(kind: Any, converter: Converter) -> Hook:
    base, *constraints = get_args(kind)
    hook: Hook = converter.get_structure_hook(base)
    for constraint in constraints:
        hook = _constrained(hook, constraint)
    return hook


def _constrained(hook: Hook, constraint: Any) -> Hook:
    match constraint:
        case Between(least, most):

            def check(value: Any, kind: Any) -> Any:
                number = hook(value, kind)
                if not least <= number <= most:
                    raise _Fault(f"must be from {least} to {most}")
                return number

        case Chars(least, most):

            def check(value: Any, kind: Any) -> Any:
                text = hook(value, kind)
                if not least <= len(text) <= most:
                    raise _Fault(f"must have {least} to {most} characters")
                return text

        case Items(least, most):

            def check(value: Any, kind: Any) -> Any:
                items = hook(value, kind)
                if not least <= len(items) <= most:
                    raise _Fault(f"must have {least} to {most} items")
                return items

        case Pattern(regex=regex, description=description):
            fullmatch = re.compile(regex).fullmatch

            def check(value: Any, kind: Any) -> Any:
                text = hook(value, kind)
                if fullmatch(text) is None:
                    raise _Fault(f"must be {description}")
                return text

        case _:
            raise TypeError(f"no rule for the constraint {constraint!r}")
    return check


def _object(cls: type[Any], converter: Converter) -> Hook:
    fields = {wire_key(each): each for each in attrs.fields(cls)}
    fill = make_dict_structure_fn(cls, converter, **_renames(cls))

    def check(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _Fault("must be an object")
        for key in value:
            if key not in fields:
                raise _Fault("is not a known key", f".{_shown(key)}")
        try:
            return fill(value, cls)
        except (_Fault, KeyError):
            raise _faults(value, fields, converter)[0] from None

    return check


def _faults(value: dict[str, Any], fields: Mapping[str, Any], converter: Converter) -> list[_Fault]:
    """Everything that is wrong with the fields of an object, in their order."""
    faults = []
    for key, field in fields.items():
        if key in value:
            try:
                converter.structure(value[key], field.type)
            except _Fault as fault:
                faults.append(fault.inside(f".{key}"))
        elif field.default is attrs.NOTHING:
            faults.append(_Fault("is missing", f".{key}"))
    return faults


def _renames(cls: type[Any]) -> dict[str, Any]:
    return {each.name: override(rename=wire_key(each)) for each in attrs.fields(cls)}


def _strict_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(str, _exactly(str, "a string"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _integer)
    for kind, parse in _PARSERS.items():
        converter.register_structure_hook_func(partial(operator.eq, kind), _identifier(parse))
    converter.register_structure_hook_factory(lambda kind: _origin(kind) is Literal, _literal)
    converter.register_structure_hook_factory(lambda kind: _origin(kind) is list, _list)
    converter.register_structure_hook_factory(lambda kind: _origin(kind) is Annotated, _annotated)
    converter.register_structure_hook_factory(_is_optional, _optional)
    converter.register_structure_hook_factory(attrs.has, _object)
    converter.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True, **_renames(cls))
    )
    return converter


def _is_optional(kind: Any) -> bool:
    return _origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def _origin(kind: Any) -> Any:
    """`get_origin`, whose return type is too narrow for the special forms that it returns."""
    return get_origin(kind)


def _shown(text: str) -> str:
    """A peer's own word in a reply to it: short, printable."""
    return repr(text if len(text) <= 32 else text[:32] + "…")


_PARSERS: dict[Any, Callable[[str], Any]] = {
    ClientId: parse_client_id,
    DeviceId: parse_device_id,
    # A client writes to few addresses many times: a hit costs a fifth of a match, and equal addresses are one string.
    Address: lru_cache(maxsize=16_384)(parse_address),
    GroupId: parse_group_id,
    CallId: parse_call_id,
    MessageId: parse_message_id,
}

_converter = _strict_converter()


# --- decoding --------------------------------------------------------------------------------------------------------


def _verbs(classes: tuple[type[Any], ...]) -> dict[str, Hook]:
    return {cls.verb: _converter.get_structure_hook(cls) for cls in classes}


_CLIENT_VERBS = _verbs(CLIENT_MESSAGES)
_SERVER_VERBS = _verbs(SERVER_MESSAGES)
_NUMBERED = [cls.verb for cls in DELIVERIES]  # no set: what a peer sent as `type` may not be hashable
_FRAME_KEYS = frozenset({"type", "id", "payload"})
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


def _message(frame: dict[str, Any], verbs: Mapping[str, Hook]) -> tuple[Any, MessageId | None]:
    message_id = _id(frame["id"]) if "id" in frame else None
    kind = frame.get("type")
    structure = verbs.get(kind) if type(kind) is str else None
    if structure is None:
        raise InvalidMessage(_unknown_verb(frame), message_id)
    for key in frame:
        if key not in _FRAME_KEYS:
            raise InvalidMessage(f"{_shown(key)} is not a key of a frame", message_id)
    try:
        return structure(frame.get("payload", {}), None), message_id
    except _Fault as fault:
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
    return f"type {_shown(kind)} is not a verb" if type(kind) is str else "type must be a string"


# --- encoding --------------------------------------------------------------------------------------------------------

_payload_of: dict[type[Any], Callable[[Any], dict[str, Any]]] = {
    cls: _converter.get_unstructure_hook(cls) for cls in (*CLIENT_MESSAGES, *SERVER_MESSAGES)
}


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
    return orjson.dumps(frame)


def encode_payload(message: ServerMessage) -> bytes:
    """The payload of a delivery alone: the store keeps it, and `frame_text` need not encode it for every mailbox."""
    return orjson.dumps(_payload_of[type(message)](message))


def frame_text(verb: str, payload: bytes, *, id: MessageId | None, seq: int) -> bytes:  # noqa: A002  # the key's name
    """The frame that delivers an encoded payload out of a mailbox (section 5)."""
    named = b"" if id is None else b',"id":' + orjson.dumps(id)
    return b'{"type":"%b","seq":%d%b,"payload":%b}' % (verb.encode(), seq, named, payload)


def archived_text(verb: str, payload: bytes, *, id: MessageId | None) -> bytes:  # noqa: A002  # the key's name
    """One envelope of the history, out of its encoded payload: an `ArchivedEnvelope` (section 7)."""
    named = b"" if id is None else b'"id":' + orjson.dumps(id) + b","
    return b'{%b"%b":%b}' % (named, verb.encode(), payload)


def history_text(
    peer: Address,
    envelopes: list[bytes],
    before: int | None,
    id: MessageId | None,  # noqa: A002  # the key's name
) -> bytes:
    """The frame of a `HistoryPage` whose envelopes are encoded already (section 7)."""
    named = b"" if id is None else b',"id":' + orjson.dumps(id)
    more = b"" if before is None else b',"before":%d' % before
    return b'{"type":"history"%b,"payload":{"with":"%b","envelopes":[%b]%b}}' % (
        named,
        peer.encode(),
        b",".join(envelopes),
        more,
    )
