"""Lanes: after a full mailbox, nothing more of the same lane goes through in the same batch.

A session's envelopes are a lane, where what it sends must not be accepted out of order (docs/protocol.md, section 4).
What comes in a later batch is the caller's to keep back: it knows the result by then.
"""

from collections.abc import Callable, Hashable, Sequence

from ironwire.store.contract.operations import (
    Append,
    ChangeGroup,
    Held,
    MailboxFull,
    NumberRefused,
    Operation,
    RefuseNumber,
    Result,
)
from ironwire.wire.messages import ErrorCode


def apply_in_lanes(batch: Sequence[Operation], apply: Callable[[int, Operation], Result]) -> list[Result]:
    """The result of every operation. `apply` does one, at its index in the batch; or what `held` makes of it, if its
    lane was refused before.
    """
    results: list[Result] = []
    refused: set[Hashable] = set()
    for index, operation in enumerate(batch):
        if refused and lane_of(operation) in refused:
            refusal = held(operation, "mailbox_full")
            results.append(Held() if refusal is None else held_if_refused(apply(index, refusal)))
            continue
        result = apply(index, operation)
        if type(result) is MailboxFull and (lane := lane_of(operation)) is not None:
            refused.add(lane)
        results.append(result)
    return results


def lane_of(operation: Operation) -> Hashable | None:
    return operation.lane if isinstance(operation, Append | ChangeGroup | RefuseNumber) else None


def held(operation: Operation, code: ErrorCode) -> RefuseNumber | None:
    """The rest of an operation that is held because another was refused with `code`: its number is used up."""
    number = operation.number if isinstance(operation, Append | RefuseNumber) else None
    return None if number is None else RefuseNumber(number, code)


def held_if_refused(result: Result) -> Result:
    """The result of a held operation, from the result of its `RefuseNumber`."""
    return Held() if type(result) is NumberRefused else result
