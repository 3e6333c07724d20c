"""The decorator of small values that are built for every message.

To the type checker such a class is frozen. At run time it is not: a frozen class takes three times as long to build,
and the server builds several for every message.
"""

from typing import TYPE_CHECKING, TypeVar

from attrs import define

__all__ = ["record"]

T = TypeVar("T")

if TYPE_CHECKING:
    from attrs import frozen as record
else:

    def record(cls: type[T]) -> type[T]:
        return define(cls, unsafe_hash=True)
