"""What every session needs, made once by `app.py`. Time and randomness come in here: a test can own them."""

from collections.abc import Callable, Sequence

from attrs import frozen

from ironwire.hub.delivery import Delivery
from ironwire.hub.hub import Hub
from ironwire.hub.postman import Postman
from ironwire.hub.requests import Requests
from ironwire.limits import Limits
from ironwire.server.rates import Rates
from ironwire.server.registration import Registration


@frozen
class Services:
    """The parts that sessions share."""

    hub: Hub
    delivery: Delivery
    requests: Requests
    postman: Postman
    rates: Rates
    registration: Registration
    limits: Limits
    features: Sequence[str]
    """What `auth_ok` tells."""
    now_ms: Callable[[], int]
    random_bytes: Callable[[int], bytes]
