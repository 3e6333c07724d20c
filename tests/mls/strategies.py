"""Values of every struct of RFC 9420, made from its annotations."""

from typing import Any

from hypothesis import strategies as st

from ironwire.mls.codec import Fixed, Nested, OpaqueBytes, Optional, Select, Struct, Uint, Vector, grammar
from ironwire.mls.framing import FramedContent, FramedContentAuth, MLSMessage, PublicMessage
from ironwire.mls.messages import Commit, MemberSender

_MOST_ITEMS = 2


def values(codec: Any) -> st.SearchStrategy[Any]:
    """Whatever `codec` can write."""
    match codec:
        case Uint(size):
            return st.integers(0, (1 << 8 * size) - 1)
        case OpaqueBytes():
            return st.binary(max_size=70)
        case Fixed(size):
            return st.binary(min_size=size, max_size=size)
        case Vector(item):
            return st.lists(values(item), max_size=_MOST_ITEMS).map(tuple)
        case Optional(item):
            return st.none() | values(item)
        case Select(_, cases):
            return st.one_of([structs(case) for case in cases.values()])
        case Nested(struct):
            return structs(struct)
        case _:
            raise TypeError(f"no values for {codec}")


def structs(struct: type[Struct]) -> st.SearchStrategy[Any]:
    """Instances of `struct`."""
    if struct is PublicMessage:
        return st.builds(_public, structs(FramedContent), *[st.binary(max_size=40)] * 3)
    return st.deferred(lambda: st.builds(struct, *[values(codec) for _, codec in grammar(struct)]))


def _public(content: FramedContent, signature: bytes, confirmation: bytes, membership: bytes) -> PublicMessage:
    """The parts of a message that stand or fall with its content and its sender."""
    auth = FramedContentAuth(signature, confirmation if isinstance(content.content, Commit) else None)
    return PublicMessage(content, auth, membership if isinstance(content.sender, MemberSender) else None)


def messages() -> st.SearchStrategy[MLSMessage]:
    return structs(MLSMessage)
