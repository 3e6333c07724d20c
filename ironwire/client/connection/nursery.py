"""A nursery for context managers that others use: what their code raises comes out of it as they raised it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """A nursery that unwraps its group where there was one exception, not counting cancellations."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        errors = [error for error in group.exceptions if not isinstance(error, trio.Cancelled)]
        if len(errors) != 1:
            raise
        only = errors[0]
    else:
        return
    # Outside of the `except`: the group must not become the context of what it held.
    raise only
