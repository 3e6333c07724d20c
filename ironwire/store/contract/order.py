"""The order of one session's envelopes, a rule that all stores share: lanes, and the numbers of a device.

A session's envelopes are a lane, where what it sends must not be accepted out of order (docs/protocol.md, section 4):
after a full mailbox, nothing more of the same lane goes through in the same batch. What comes in a later batch is the
caller's to keep back: it knows the result by then.

A mailbox remembers one number, up to which everything of its device is settled, and which of the last ones were
refused (section 4.1). So a number that comes again is answered as it was, and an accepted one leaves nothing behind.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from attrs import evolve

from ironwire.limits import UNANSWERED_ENVELOPES
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Number, RefusedSpan
from ironwire.wire.messages import ErrorCode

_CODES: dict[type[object], ErrorCode] = {
    op.MailboxFull: "mailbox_full",
    op.Undeliverable: "user_offline",
    op.NotMember: "not_found",
}
"""By the result of an envelope that was refused, what its sender is told."""

# A union that stands inside a function is made anew at each call.
_InLane = op.Carrying | op.RefuseNumber
_Numbered = op.Append | op.RefuseNumber


# --- lanes -----------------------------------------------------------------------------------------------------------


def apply_in_lanes(batch: Sequence[op.Operation], apply: Callable[[int, op.Operation], op.Result]) -> list[op.Result]:
    """The result of every operation. `apply` does one, at its index in the batch; or what `held` makes of it, if its
    lane was refused before.
    """
    results: list[op.Result] = []
    refused: set[Hashable] = set()
    for index, operation in enumerate(batch):
        if refused and lane_of(operation) in refused:
            refusal = held(operation, "mailbox_full")
            results.append(op.Held() if refusal is None else held_if_refused(apply(index, refusal)))
            continue
        result = apply(index, operation)
        if type(result) is op.MailboxFull and (lane := lane_of(operation)) is not None:
            refused.add(lane)
        results.append(result)
    return results


def lane_of(operation: op.Operation) -> Hashable | None:
    return operation.lane if isinstance(operation, _InLane) else None


def held(operation: op.Operation, code: ErrorCode) -> op.RefuseNumber | None:
    """The rest of an operation that is held because another was refused with `code`: its number is used up."""
    number = operation.number if isinstance(operation, _Numbered) else None
    return None if number is None else op.RefuseNumber(number, code)


def held_if_refused(result: op.Result) -> op.Result:
    """The result of a held operation, from the result of its `RefuseNumber`."""
    return op.Held() if type(result) is op.NumberRefused else result


# --- numbers ---------------------------------------------------------------------------------------------------------


class Counted(Protocol):
    """A mailbox, as far as it counts the envelopes of its device."""

    session: int
    sent: int
    refused: tuple[RefusedSpan, ...]


def answer_to(box: Counted | None, number: Number) -> op.NotNext | None:
    """The answer to an envelope whose number is not the next one; None where it is."""
    if box is None or number.session != box.session:
        return op.SessionOver()
    n = number.n
    if n == box.sent + 1:
        return None
    if not box.sent - UNANSWERED_ENVELOPES < n <= box.sent:
        return op.OutOfTurn(box.sent + 1)
    return op.AlreadySettled(next((span.code for span in box.refused if span.first <= n <= span.last), None))


def settle_next(box: Counted, result: op.Result) -> None:
    """The next number of the device is settled with this result."""
    code = _CODES.get(type(result))
    if code is None:
        box.sent += 1
    else:
        refuse_next(box, code)


def refuse_next(box: Counted, code: ErrorCode) -> None:
    """The next number of the device is refused."""
    box.sent += 1
    *before, last = (*refused_of_late(box.sent, box.refused), RefusedSpan(box.sent, box.sent, code))
    if before and before[-1].code == code and before[-1].last == last.first - 1:
        last = evolve(before.pop(), last=last.last)
    box.refused = (*before, last)


def refuse_after_all(box: Counted, n: int, code: ErrorCode) -> None:
    """The envelope that was accepted under this number is refused."""
    spans = (*refused_of_late(box.sent, box.refused), RefusedSpan(n, n, code))
    box.refused = tuple(sorted(spans, key=lambda span: span.first))


def refused_of_late(sent: int, refused: tuple[RefusedSpan, ...]) -> tuple[RefusedSpan, ...]:
    """The refusals among the last numbers up to `sent`."""
    first = sent - UNANSWERED_ENVELOPES + 1
    return tuple(evolve(span, first=max(span.first, first)) for span in refused if span.last >= first)
