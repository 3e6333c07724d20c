"""The parts that every session needs, made once by `server/parts.py`. A test can own time and randomness."""

from collections.abc import Callable, Sequence

from attrs import frozen

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Hub
from ironwire.delivery.outbox import OutboxFlusher
from ironwire.handlers.dispatch import Dispatcher
from ironwire.limits import Limits
from ironwire.server.session.rates import Rates
from ironwire.server.session.reader import Reader
from ironwire.server.session.registration import Registration
from ironwire.server.session.scheduler import Scheduler


@frozen
class Services:
    """The parts that sessions share."""

    hub: Hub
    delivery: Delivery
    dispatcher: Dispatcher
    flusher: OutboxFlusher
    reader: Reader
    scheduler: Scheduler
    rates: Rates
    registration: Registration
    limits: Limits
    features: Sequence[str]
    """The features that `auth_ok` names."""
    now_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
