"""Why numbers of a mailbox hold nothing: their envelopes have expired, or the mailbox was full when they came.

A mailbox remembers one number for that. Envelopes expire in the order in which they came, so what is missing up to the
last number that has expired has expired, or would have by now; what is missing behind it was never there. Besides, it
remembers of which groups and other conversations a change was lost, and between which numbers: a bounded number of
them, because somebody else decides how many there are (docs/decisions/0014).
"""

from collections.abc import Mapping
from typing import Literal

from ironwire.ids import ConversationId, GroupId, PairId, Recipient, is_group
from ironwire.record import record
from ironwire.wire.messages import GroupChanged, MlsCommitted, MlsWelcome

Reason = Literal["expired", "full"]

CHANGE_VERBS = (GroupChanged.verb, MlsCommitted.verb, MlsWelcome.verb)
"""Envelopes without which a device is out of step with their conversation."""

Span = tuple[int, int]
"""From the first to the last number under which a change of a group was lost."""


@record
class Loss:
    """The numbers `first` to `last` hold nothing. `groups` are the conversations of which a change was lost between
    them, in the order of their ids; with `more_groups`, there were others that nobody has counted.
    """

    first: int
    last: int
    reason: Reason
    groups: tuple[ConversationId, ...] = ()
    more_groups: bool = False


def change_of(verb: str, to: Recipient) -> ConversationId | None:
    """The conversation of which an envelope tells a change; None: it tells none."""
    if verb not in CHANGE_VERBS:
        return None
    return GroupId(to) if is_group(to) else PairId(to)


def losses_between(first: int, last: int, expired: int, changes: Mapping[ConversationId | None, Span]) -> list[Loss]:
    """The losses behind missing numbers, all of `first` to `last`, in a mailbox whose highest expired number is
    `expired`.

    Args:
        changes: the groups of which a change was lost, with the numbers; None stands for all groups that are not named.
    """
    edge = min(max(expired, first - 1), last)
    losses = []
    parts: list[tuple[int, int, Reason]] = [(first, edge, "expired"), (edge + 1, last, "full")]
    for begin, end, reason in parts:
        if begin <= end:
            lost = {group for group, (earliest, latest) in changes.items() if earliest <= end and latest >= begin}
            named = tuple(sorted(group for group in lost if group is not None))
            losses.append(Loss(begin, end, reason, named, None in lost))
    return losses


def widened(span: Span | None, seq: int) -> Span:
    """The span with one number more."""
    return (seq, seq) if span is None else (min(span[0], seq), max(span[1], seq))
