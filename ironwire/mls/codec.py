"""The presentation language of RFC 9420, section 2.1: a struct is a class, and its annotations are its grammar.

    @frozen
    class Extension(Struct):
        type: U16
        data: Opaque

`tuple[X, ...]` is a vector `X name<V>`, `X | None` an `optional<X>`, `Annotated[A | B, Select(1, {1: A, 2: B})]` a
number of one byte and what it selects. Every value has exactly one encoding: a length that could be shorter, a
presence octet other than 0 and 1, and bytes behind the end are refused, so what was decoded encodes to the same bytes.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Protocol, Self, Union, get_args, get_origin, get_type_hints

from attrs import define, frozen

from ironwire.errors import MLSError

_PREFIX_BITS = 6
_LONGEST_LENGTH = 4
_MOST_BYTES = 1 << 30


def need(condition: object, complaint: str) -> None:
    """Raises:
    MLSError: `condition` does not hold.
    """
    if not condition:
        raise MLSError(complaint)


@define(eq=False)
class Cursor:
    """A position in bytes, and the end up to which may be read."""

    _data: bytes
    _at: int
    _end: int

    @classmethod
    def over(cls, data: bytes) -> Self:
        return cls(data, 0, len(data))

    @property
    def is_empty(self) -> bool:
        return self._at == self._end

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > self._end:
            raise MLSError("the encoding is cut short")
        return self._data[start : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def part(self) -> "Cursor":
        """The contents of a vector, past which this cursor goes on."""
        length = self.length()
        start = self._at
        self.take(length)
        return Cursor(self._data, start, self._at)

    def opaque(self) -> bytes:
        return self.take(self.length())

    def rest(self) -> bytes:
        return self.take(self._end - self._at)

    def finish(self) -> None:
        need(self.is_empty, "bytes behind the end")

    def length(self) -> int:
        """A variable-size length, which is as short as it can be (section 2.1.2)."""
        first = self.number(1)
        size = 1 << (first >> _PREFIX_BITS)
        need(size <= _LONGEST_LENGTH, "a length of more than 30 bits")
        length = (first & (1 << _PREFIX_BITS) - 1) << 8 * (size - 1) | self.number(size - 1)
        need(size == _length_size(length), "a length is not as short as it can be")
        return length


def _length_size(length: int) -> int:
    """How many bytes the length itself takes."""
    if length < 1 << _PREFIX_BITS:
        return 1
    return 2 if length < 1 << _PREFIX_BITS + 8 else _LONGEST_LENGTH


def length_prefix(length: int) -> bytes:
    """The shortest encoding of a length (section 2.1.2)."""
    need(length < _MOST_BYTES, "a vector of more than 30 bits")
    size = _length_size(length)
    return (length | (size.bit_length() - 1) << 8 * size - 2).to_bytes(size, "big")


def opaque(data: bytes) -> bytes:
    """`data` with its length in front."""
    return length_prefix(len(data)) + data


class Codec(Protocol):
    """How values of one type are written and read."""

    def write(self, value: Any) -> bytes: ...

    def read(self, cursor: Cursor) -> Any: ...


@frozen
class Uint:
    size: int

    def write(self, value: int) -> bytes:
        need(0 <= value < 1 << 8 * self.size, f"a number that does not fit into {self.size} bytes")
        return value.to_bytes(self.size, "big")

    def read(self, cursor: Cursor) -> int:
        return cursor.number(self.size)


class OpaqueBytes:
    def write(self, value: bytes) -> bytes:
        return opaque(value)

    def read(self, cursor: Cursor) -> bytes:
        return cursor.opaque()


@frozen
class Fixed:
    """Exactly `size` bytes, without a length."""

    size: int

    def write(self, value: bytes) -> bytes:
        need(len(value) == self.size, f"not {self.size} bytes")
        return value

    def read(self, cursor: Cursor) -> bytes:
        return cursor.take(self.size)


class Flag:
    """A presence octet (section 2.1.1)."""

    def write(self, value: bool) -> bytes:
        return b"\1" if value else b"\0"

    def read(self, cursor: Cursor) -> bool:
        octet = cursor.number(1)
        need(octet <= 1, "a presence octet other than 0 and 1")
        return bool(octet)


@frozen
class Vector:
    item: Codec

    def write(self, value: tuple[Any, ...]) -> bytes:
        return opaque(b"".join([self.item.write(item) for item in value]))

    def read(self, cursor: Cursor) -> tuple[Any, ...]:
        part, items = cursor.part(), []
        while not part.is_empty:
            items.append(self.item.read(part))
        return tuple(items)


@frozen
class Optional:
    item: Codec

    def write(self, value: Any) -> bytes:
        return b"\0" if value is None else b"\1" + self.item.write(value)

    def read(self, cursor: Cursor) -> Any:
        return self.item.read(cursor) if Flag().read(cursor) else None


@frozen
class Select:
    """A number of `size` bytes, and the struct that it selects."""

    size: int
    cases: Mapping[int, type["Struct"]]

    def write(self, value: "Struct") -> bytes:
        return self.tag(value).to_bytes(self.size, "big") + value.encode()

    def read(self, cursor: Cursor) -> "Struct":
        return self.case(cursor.number(self.size)).read(cursor)

    def tag(self, value: "Struct") -> int:
        return next(tag for tag, case in self.cases.items() if case is type(value))

    def case(self, tag: int) -> type["Struct"]:
        case = self.cases.get(tag)
        if case is None:
            raise MLSError(f"a value selects type {tag}, which is not known")
        return case


@frozen
class Nested:
    struct: type["Struct"]

    def write(self, value: "Struct") -> bytes:
        return value.encode()

    def read(self, cursor: Cursor) -> "Struct":
        return self.struct.read(cursor)


U8 = Annotated[int, Uint(1)]
U16 = Annotated[int, Uint(2)]
U32 = Annotated[int, Uint(4)]
U64 = Annotated[int, Uint(8)]
Opaque = Annotated[bytes, OpaqueBytes()]
Bool = Annotated[bool, Flag()]


class Struct:
    """A frozen attrs class whose annotations are its grammar."""

    __slots__ = ()

    def encode(self) -> bytes:
        return b"".join([codec.write(getattr(self, name)) for name, codec in grammar(type(self))])

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        return cls(*[codec.read(cursor) for _, codec in grammar(cls)])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises:
        MLSError: `data` is not the encoding of one of these.
        """
        cursor = Cursor.over(data)
        value = cls.read(cursor)
        cursor.finish()
        return value


_grammars: dict[type[Struct], tuple[tuple[str, Codec], ...]] = {}


def grammar(struct: type[Struct]) -> tuple[tuple[str, Codec], ...]:
    """The fields of `struct` and how each is written. Read from the annotations once."""
    known = _grammars.get(struct)
    if known is None:
        hints = get_type_hints(struct, include_extras=True)
        known = tuple((name, _codec(hint)) for name, hint in hints.items() if get_origin(hint) is not ClassVar)
        _grammars[struct] = known
    return known


def _codec(hint: Any) -> Codec:
    arguments: tuple[Any, ...] = get_args(hint)
    origin = get_origin(hint)
    if origin is Annotated:
        codec: Codec = arguments[1]
        return codec
    if origin is tuple:
        return Vector(_codec(arguments[0]))
    if origin in (Union, UnionType):
        (present,) = [argument for argument in arguments if argument is not NoneType]
        return Optional(_codec(present))
    return Nested(hint)
