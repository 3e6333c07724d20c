"""Hypothesis strategies for everything that crosses the socket, derived from the annotations of `wire/messages.py`.

A new verb gets its strategies from its class alone. A type or a constraint that has no rule here fails loudly.
"""

import json
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ironwire.ids import Address, CallId, ClientId, ConversationId, DeviceId, GroupId, MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import CLIENT_MESSAGES, SERVER_MESSAGES
from ironwire.wire.messages.fields import SAFE_INTEGER, Between, Chars, Items, Pattern

Frame = dict[str, Any]

_client_ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
_group_ids = st.binary(min_size=16, max_size=16).map(lambda raw: "#" + raw.hex())
_printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E)

_IDENTIFIERS: dict[Any, SearchStrategy[Any]] = {
    ClientId: _client_ids,
    GroupId: _group_ids,
    Address: _client_ids | _group_ids,
    ConversationId: _group_ids.flatmap(lambda group: st.sampled_from([group, "@" + group[1:]])),
    DeviceId: st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    CallId: st.binary(min_size=16, max_size=16).map(bytes.hex),
    MessageId: st.text(_printable, min_size=1, max_size=64),
}


# --- valid messages --------------------------------------------------------------------------------------------------


def values_of(kind: Any) -> SearchStrategy[Any]:
    """Values that a field of this type may hold; an optional one is sometimes absent (`None`)."""
    if kind in _IDENTIFIERS:
        return _IDENTIFIERS[kind]
    if attrs.has(kind):
        return messages_of(kind)
    origin: Any = get_origin(kind)
    if origin in (Union, UnionType):
        present = tuple(each for each in get_args(kind) if each is not type(None))
        return st.none() | values_of(Union[present])  # noqa: UP007  # `|` cannot join a computed tuple
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin is Annotated:
        return _constrained(*get_args(kind))
    return {str: st.text(), bool: st.booleans(), int: st.integers(-SAFE_INTEGER, SAFE_INTEGER)}[kind]


def messages_of(cls: type[Any]) -> SearchStrategy[Any]:
    return st.builds(cls, **{field.name: values_of(field.type) for field in attrs.fields(cls)})


def client_messages() -> SearchStrategy[Any]:
    return st.one_of([messages_of(cls) for cls in CLIENT_MESSAGES])


def server_messages() -> SearchStrategy[Any]:
    return st.one_of([messages_of(cls) for cls in SERVER_MESSAGES])


def message_ids() -> SearchStrategy[MessageId]:
    return _IDENTIFIERS[MessageId]


def _constrained(base: Any, constraint: Any, *others: Any) -> SearchStrategy[Any]:
    match constraint:
        case Chars(least, most) if others:  # and a pattern that says which characters
            (pattern,) = others
            return st.text(
                st.from_regex(pattern.regex.removesuffix("*"), fullmatch=True), min_size=least, max_size=most
            )
        case Between(least, most):
            return st.integers(least, most)
        case Chars(least, most):
            return st.text(min_size=least, max_size=most)
        case Items(least, most):
            return st.lists(values_of(*get_args(base)), min_size=least, max_size=most)
        case Pattern(regex=regex):
            return st.from_regex(regex, fullmatch=True)
        case _:
            raise TypeError(f"no strategy for the constraint {constraint!r}")


# --- anything else ---------------------------------------------------------------------------------------------------


def json_values() -> SearchStrategy[Any]:
    """Any JSON value, with integers and floats far outside what the protocol allows."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | _TEMPTING
    )
    return st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


_TEMPTING = st.sampled_from(
    [
        True,
        "5",
        "true",
        "",
        0,
        -1,
        1.0,
        5.0,
        2**53 - 1,
        2**53,
        -(2**53),
        2**63,
        2**64,
        10**40,
        1e308,
        "null",
        "a" * 64,
        "\n",
    ],
)
"""Values that a lenient decoder would take for something else, and the edges of the ranges."""


@st.composite
def mutated_frames(draw: DrawFn, messages: SearchStrategy[Any]) -> str:
    """The JSON of a valid frame with one thing changed: sometimes still valid, most often not."""
    frame: Frame = json.loads(encode(draw(messages), draw(st.none() | message_ids())))
    mutate: Callable[[DrawFn, Frame], str] = draw(st.sampled_from([_replace, _remove, _add, _repeat, _nest]))
    return mutate(draw, frame)


def any_frame_text(messages: SearchStrategy[Any]) -> SearchStrategy[str]:
    """Whatever may stand in a text frame: no JSON, any JSON, and frames that are nearly right."""
    return st.text() | json_values().map(json.dumps) | mutated_frames(messages) | mutated_frames(messages).flatmap(_cut)


def _replace(draw: DrawFn, frame: Frame) -> str:
    holder, key = _place(draw, frame)
    old = holder[key]
    holder[key] = draw(json_values() | st.sampled_from([[old], {"value": old}, str(old), f"{old}\n", f" {old}"]))
    return json.dumps(frame)


def _remove(draw: DrawFn, frame: Frame) -> str:
    holder, key = _place(draw, frame)
    del holder[key]
    return json.dumps(frame)


def _add(draw: DrawFn, frame: Frame) -> str:
    objects = [frame, *(holder[key] for holder, key in _places(frame) if isinstance(holder[key], dict))]
    known = st.sampled_from(
        ["id", "n", "type", "payload", "seq", "from", "sender", "to", "verb", "device", "caption", "Type"]
    )
    draw(st.sampled_from(objects))[draw(known | st.text())] = draw(json_values())
    return json.dumps(frame)


def _repeat(draw: DrawFn, frame: Frame) -> str:
    """The same key twice, with two values: JSON allows it."""
    key = draw(st.sampled_from(list(frame)))
    return f"{json.dumps(frame)[:-1]}, {json.dumps(key)}: {json.dumps(draw(json_values()))}}}"


def _nest(draw: DrawFn, frame: Frame) -> str:
    holder, key = _place(draw, frame)
    depth = draw(st.sampled_from([1, 100, 1_000, 5_000]))
    start, end = draw(st.sampled_from([("[", "]"), ('{"a":', "}")]))
    holder[key] = "here"
    return json.dumps(frame).replace('"here"', start * depth + "1" + end * depth)


def _cut(text: str) -> SearchStrategy[str]:
    return st.integers(0, len(text)).map(lambda end: text[:end])


def _place(draw: DrawFn, frame: Frame) -> tuple[Any, Any]:
    """One place in the frame, more often inside its payload: most of the rules are there."""
    anywhere = list(_places(frame))
    inside = list(_places(frame.get("payload"))) or anywhere
    place: tuple[Any, Any] = draw(st.sampled_from(inside) | st.sampled_from(inside) | st.sampled_from(anywhere))
    return place


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place that holds a value, as the container and the key or the index."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
