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
    """The name of what `one` raised: the same for the same bug. None if it raised nothing."""
    try:
        one(data)
    except Exception as error:
        return name_of(error)
    return None


def name_of(error: BaseException) -> str:
    """What was raised, the last place in the project that it came through, and the first line of what it says."""
    leaf = first_leaf(error)
    frames = [*traceback.extract_tb(error.__traceback__), *traceback.extract_tb(leaf.__traceback__)]
    ours = [frame for frame in frames if _ROOT in Path(frame.filename).parents]
    where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(leaf).__name__}{where}: {str(leaf).partition(chr(10))[0][:_SAID_CHARACTERS]}"


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
