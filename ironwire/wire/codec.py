"""JSON text <-> messages: the only converter there is (docs/protocol.md, section 1).

Nothing is coerced, nothing unknown is let through, and whatever is wrong with a frame comes out as one exception, `InvalidMessage`.

A valid frame pays nothing for the quality of the error messages: cattrs generates straight-line code for each class, and only an object
that this code refused is looked at again, field by field, to say which one it was.
"""

import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import attrs
import orjson
from cattrs import BaseConverter, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ironwire.errors import InvalidId, InvalidMessage
from ironwire.ids import (
    Address,
    ClientId,
    DeviceId,
    MessageId,
    parse_address,
    parse_client_id,
    parse_device_id,
    parse_message_id,
)
from ironwire.wire.constraints import SAFE_INTEGER, Between, Chars, Items, Pattern
from ironwire.wire.messages import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    AuthChallenge,
    ClientMessage,
    ServerMessage,
    wire_key,
)

Hook = Callable[[Any, Any], Any]
"""cattrs' form of a rule: given a JSON value and the type that it should have, the value of that type. Raises `_Fault`."""


class ClientFrame(NamedTuple):
    """A frame from a client: the message and the id that the reply carries."""

    message: ClientMessage
    id: MessageId | None


class ServerFrame(NamedTuple):
    """A frame from the server. Without `id` it is a push."""

    message: ServerMessage
    id: MessageId | None


class _Fault(Exception):
    """What is wrong with a value, and where inside it: each rule that it passes on its way out puts its own step in front."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def inside(self, step: str) -> "_Fault":
        return _Fault(self.what, step + self.where)


# --- one strict rule for each type that a field can have ---------------------------------------------------------------------------


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


def _literal(kind: Any, _: BaseConverter) -> Hook:
    allowed = get_args(kind)

    def check(value: Any, _: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise _Fault("must be one of " + ", ".join(allowed))
        return value

    return check


def _optional(kind: Any, converter: BaseConverter) -> Hook:
    """An optional key may be left out; `null` is a value of a wrong type (section 1)."""
    hook: Hook = converter.get_structure_hook(Union[tuple(arg for arg in get_args(kind) if arg is not type(None))])  # noqa: UP007  # of a computed tuple
    return hook


def _list(kind: Any, converter: BaseConverter) -> Hook:
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


def _annotated(kind: Any, converter: BaseConverter) -> Hook:
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
    known = fields.keys()
    fill = make_dict_structure_fn(cls, converter, **_renames(cls))

    def check(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _Fault("must be an object")
        if not value.keys() <= known:
            raise _Fault("is not a known key", f".{_shown(min(value.keys() - known))}")
        try:
            return fill(value, cls)
        except (_Fault, KeyError):
            raise _faults(value, fields, converter)[0] from None

    return check


def _faults(value: dict[str, Any], fields: Mapping[str, "attrs.Attribute[Any]"], converter: Converter) -> list[_Fault]:
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
    converter = Converter(detailed_validation=False, omit_if_default=True)
    converter.register_structure_hook(str, _exactly(str, "a string"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _integer)
    for kind, parse in _PARSERS.items():
        converter.register_structure_hook_func(lambda given, kind=kind: given == kind, _identifier(parse))
    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is Literal, _literal)
    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is list, _list)
    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is Annotated, _annotated)
    converter.register_structure_hook_factory(_is_optional, _optional)
    converter.register_structure_hook_factory(attrs.has, _object)
    converter.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, converter, **_renames(cls))
    )
    return converter


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def _shown(text: str) -> str:
    """A peer's own word in a reply to it: short, printable."""
    return repr(text if len(text) <= 32 else text[:32] + "…")


_PARSERS: dict[Any, Callable[[str], Any]] = {
    ClientId: parse_client_id,
    DeviceId: parse_device_id,
    Address: parse_address,
    MessageId: parse_message_id,
}

_converter = _strict_converter()
_message_id = _identifier(parse_message_id)


# --- decoding ----------------------------------------------------------------------------------------------------------------------


def _verbs(classes: tuple[type[Any], ...]) -> dict[str, Hook]:
    return {cls.verb: _converter.get_structure_hook(cls) for cls in classes}


_CLIENT_VERBS = _verbs(CLIENT_MESSAGES)
_SERVER_VERBS = _verbs(SERVER_MESSAGES)
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
    return ClientFrame(*_message(_load(text), _CLIENT_VERBS))


def decode_server(text: str | bytes) -> ServerFrame:
    """The message in a frame that the server sent; as strict as the other direction.

    Raises:
        InvalidMessage: the server does not speak this protocol, or a newer version of it.
    """
    frame = _load(text)
    if frame.get("type") == _FLAT:
        beside = {key: frame.pop(key) for key in ("type", "id") if key in frame}
        frame = {**beside, "payload": frame}
    return ServerFrame(*_message(frame, _SERVER_VERBS))


def _load(text: str | bytes) -> dict[str, Any]:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"not JSON: {error.msg} at character {error.pos}") from None
    if type(frame) is not dict:
        raise InvalidMessage("a frame must be one JSON object")
    return frame


def _message(frame: dict[str, Any], verbs: Mapping[str, Hook]) -> tuple[Any, MessageId | None]:
    message_id: MessageId | None = None
    where = "id"
    try:
        if "id" in frame:
            message_id = _message_id(frame["id"], MessageId)
        where = "type"
        structure = _verb(frame, verbs)
        where = "payload"
        return structure(frame.get("payload", {}), None), message_id
    except _Fault as fault:
        raise InvalidMessage(f"{where}{fault.where} {fault.what}", message_id) from None
