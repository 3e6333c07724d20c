"""The strict converter behind `codec.py`: the JSON values that each type takes (docs/protocol.md, section 1).

Nothing is coerced, and nothing unknown passes unless the converter is an open one. Good errors cost a valid object
nothing: cattrs generates straight-line code for each class, and only an object that this code refuses is checked again,
field by field, to name the fault.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ironwire import ids
from ironwire.errors import InvalidId
from ironwire.wire.messages import wire_key
from ironwire.wire.messages.fields import SAFE_INTEGER, Between, Chars, Items, Pattern

Hook = Callable[[Any, Any], Any]
"""A rule in cattrs' form: takes a JSON value and its type, returns what the field holds, raises `Fault`."""


class Fault(Exception):
    """A fault of a value, and its place inside: each rule on the way out prepends a step."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def about(self, whole: str) -> str:
        """In words; `whole` is the name of the value itself."""
        return f"{self.where.removeprefix('.') or whole} {self.what}"

    def inside(self, step: str) -> "Fault":
        return Fault(self.what, step + self.where)


def shown(text: str) -> str:
    """A peer's own word in a reply to it: short, printable."""
    return repr(text if len(text) <= 32 else text[:32] + "…")


_PARSERS: dict[Any, Callable[[str], Any]] = {
    ids.ClientId: ids.parse_client_id,
    ids.DeviceId: ids.parse_device_id,
    # A client writes to few addresses many times. A hit costs a fifth of a match, and equal addresses share one string.
    ids.Address: lru_cache(maxsize=16_384)(ids.parse_address),
    ids.GroupId: ids.parse_group_id,
    ids.ConversationId: ids.parse_conversation_id,
    ids.CallId: ids.parse_call_id,
    ids.MessageId: ids.parse_message_id,
}


def strict_converter(*, is_open: bool = False) -> Converter:
    """A converter for every class in `messages`. A refusal is a `Fault`, and no other exception. An open converter
    ignores unknown keys.
    """
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
    converter.register_structure_hook_factory(
        attrs.has, lambda cls, converter: _object(cls, converter, is_open=is_open)
    )
    converter.register_unstructure_hook_factory(
        attrs.has, lambda cls: make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True, **_renames(cls))
    )
    return converter


# --- one rule for each type that a field can have --------------------------------------------------------------------


def _exactly(kind: type, name: str) -> Hook:
    def check(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise Fault(f"must be {name}")
        return value

    return check


def _integer(value: Any, _: Any) -> int:
    if type(value) is not int or not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        raise Fault("must be an integer inside ±2^53")
    return value


def _identifier(parse: Callable[[str], Any]) -> Hook:
    def check(value: Any, _: Any) -> Any:
        if type(value) is not str:
            raise Fault("must be a string")
        try:
            return parse(value)
        except InvalidId as error:
            raise Fault(str(error)) from None

    return check


def _literal(kind: Any, _: Converter) -> Hook:
    allowed = get_args(kind)

    def check(value: Any, _: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise Fault("must be one of " + ", ".join(allowed))
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
            raise Fault("must be a list")
        structured: list[Any] = []
        for each in value:
            try:
                structured.append(hook(each, item))
            except Fault as fault:
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
                    raise Fault(f"must be from {least} to {most}")
                return number

        case Chars(least, most):

            def check(value: Any, kind: Any) -> Any:
                text = hook(value, kind)
                if not least <= len(text) <= most:
                    raise Fault(f"must have {least} to {most} characters")
                return text

        case Items(least, most):

            def check(value: Any, kind: Any) -> Any:
                items = hook(value, kind)
                if not least <= len(items) <= most:
                    raise Fault(f"must have {least} to {most} items")
                return items

        case Pattern(regex=regex, description=description):
            fullmatch = re.compile(regex).fullmatch

            def check(value: Any, kind: Any) -> Any:
                text = hook(value, kind)
                if fullmatch(text) is None:
                    raise Fault(f"must be {description}")
                return text

        case _:
            raise TypeError(f"no rule for the constraint {constraint!r}")
    return check


def _object(cls: type[Any], converter: Converter, *, is_open: bool) -> Hook:
    fields = {wire_key(each): each for each in attrs.fields(cls)}
    required = sum(each.default is attrs.NOTHING for each in fields.values())
    fill = make_dict_structure_fn(cls, converter, **_renames(cls))

    def check(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise Fault("must be an object")
        try:
            # As many keys as are required: then it is those, or `fill` misses one.
            if not is_open and len(value) != required and not value.keys() <= fields.keys():
                raise KeyError
            return fill(value, cls)
        except (Fault, KeyError):
            raise next(_faults(value, fields, converter, is_open=is_open)) from None

    return check


def _faults(
    value: dict[str, Any], fields: Mapping[str, Any], converter: Converter, *, is_open: bool
) -> Iterator[Fault]:
    """Everything that is wrong with an object: its unknown keys, then its fields in their order."""
    for key in value:
        if key not in fields and not is_open:
            yield Fault("is not a known key", f".{shown(key)}")
    for key, field in fields.items():  # pragma: no branch  # there is at least one fault
        if key in value:
            try:
                converter.structure(value[key], field.type)
            except Fault as fault:
                yield fault.inside(f".{key}")
        elif field.default is attrs.NOTHING:
            yield Fault("is missing", f".{key}")


def _renames(cls: type[Any]) -> dict[str, Any]:
    return {each.name: override(rename=wire_key(each)) for each in attrs.fields(cls)}


def _is_optional(kind: Any) -> bool:
    return _origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def _origin(kind: Any) -> Any:
    """`get_origin`, whose return type is too narrow for the special forms that it returns."""
    return get_origin(kind)
