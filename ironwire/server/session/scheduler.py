"""How much of what one peer has sent is handled in one turn of the event loop (docs/decisions/0011).

`server/listener/connection_limiter.py` knows whose turn it is. Rule: people never wait for a turn; they do not write
that fast.
"""

from collections.abc import Iterator

TURN_MESSAGES = 100
TURN_CHARS = 24 * 1024
"""A millisecond's work. One message may be larger."""
PROMPT_MESSAGES = 16
PROMPT_CHARS = 4 * 1024
"""A read that brings no more is handled at once."""


def is_prompt(batch: list[str | bytes]) -> bool:
    """Whether one read brought so little that it waits for no turn."""
    return len(batch) <= PROMPT_MESSAGES and sum(map(len, batch)) <= PROMPT_CHARS


def parts(batch: list[str | bytes]) -> Iterator[list[str | bytes]]:
    """The parts of a large read that are a turn each."""
    if len(batch) <= TURN_MESSAGES and sum(map(len, batch)) <= TURN_CHARS:
        yield batch
        return
    part: list[str | bytes] = []
    chars = 0
    for text in batch:
        if len(part) == TURN_MESSAGES or (part and chars + len(text) > TURN_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    yield part
