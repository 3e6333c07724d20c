"""The application of `toy.py` under the guard: `tests.system.guarded_toy:app`."""

import trio

from ironwire.limits import Limits
from ironwire.server.listener.hypercorn import install
from tests.system.toy import app

__all__ = ["app"]

install(Limits(), trio.lowlevel.checkpoint)
