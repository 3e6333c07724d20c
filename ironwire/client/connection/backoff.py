"""When to come back: full jitter, so that the clients of a server that restarted do not return in one wave."""

import random
from collections.abc import Callable

from attrs import frozen

_DOUBLINGS = 32
"""More would only overflow: the cap holds long before."""


@frozen
class Backoff:
    """A delay is uniform in [0, min(cap, base x 2^attempt)]. `uniform` draws it."""

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    uniform: Callable[[float, float], float] = random.uniform

    def delay_seconds(self, attempt: int, spread_seconds: float | None = None) -> float:
        """How long to wait before attempt `attempt`, counted from 0. A server that named a spread gets exactly that."""
        if spread_seconds is not None:
            return self.uniform(0, spread_seconds)
        return self.uniform(0, min(self.cap_seconds, self.base_seconds * 2 ** min(attempt, _DOUBLINGS)))
