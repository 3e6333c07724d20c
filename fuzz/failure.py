"""What a failure is called, so that one bug is reported once, and how its input is made small.

Imports nothing of the project: atheris sees only what is imported after it was asked to look.
"""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_SHRINK_SECONDS = 10.0
_SAID_CHARACTERS = 160


def failure(one: Callable[[bytes], None], data: bytes) -> str | None:
    """What `one` raised, with the place in the project where it did: the same text for the same bug."""
    try:
        one(data)
    except Exception as error:
        leaf = first_leaf(error)
        frames = [*traceback.extract_tb(error.__traceback__), *traceback.extract_tb(leaf.__traceback__)]
        ours = [each for each in frames if _ROOT in Path(each.filename).parents]
        said = str(leaf).partition("\n")[0][:_SAID_CHARACTERS]
        return f"{type(leaf).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}: {said}"
    return None


def shrunk(data: bytes, still_fails: Callable[[bytes], bool]) -> bytes:
    """`data` without the pieces that the failure does not need."""
    deadline = time.monotonic() + _SHRINK_SECONDS
    piece_bytes = len(data) // 2
    while piece_bytes:
        start = 0
        while start < len(data):
            if time.monotonic() > deadline:
                return data
            smaller = data[:start] + data[start + piece_bytes :]
            if still_fails(smaller):
                data = smaller
            else:
                start += piece_bytes
        piece_bytes //= 2
    return data


def first_leaf(error: BaseException) -> BaseException:
    """The first exception in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
