"""Lanes: after a full mailbox, nothing more of the same lane goes through in the same batch.

A session's envelopes are a lane, where what it sends must not be accepted out of order (docs/protocol.md, section 4).
What comes in a later batch is the caller's to keep back: it knows the result by then.
"""

from collections.abc import Callable, Hashable, Sequence

from ironwire.store.contract.operations import Append, ChangeGroup, Held, MailboxFull, Operation, Result


def apply_in_lanes(batch: Sequence[Operation], apply: Callable[[int], Result]) -> list[Result]:
    """The result of every operation: `apply` is asked by its index in the batch, unless its lane was refused before."""
    results: list[Result] = []
    refused: set[Hashable] = set()
    for index, operation in enumerate(batch):
        if refused and lane_of(operation) in refused:
            results.append(Held())
            continue
        result = apply(index)
        if type(result) is MailboxFull and (lane := lane_of(operation)) is not None:
            refused.add(lane)
        results.append(result)
    return results


def lane_of(operation: Operation) -> Hashable | None:
    return operation.lane if isinstance(operation, Append | ChangeGroup) else None
