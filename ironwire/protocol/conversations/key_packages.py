"""The pool of key packages of a device, from which others take when they add it to a conversation.

    key package   made -> published -> claimed -> used, or expired
    last resort   made -> published -> claimed, any number of times -> replaced by the next one

Rules: a claim never fails for want of a package, because the last resort is always there. Whoever claims too much gets
the last resort and takes nothing from the pool; so does a client that the target has blocked, and neither learns it.
"""

from attrs import define, field, frozen

from ironwire.ids import ClientId
from ironwire.protocol.bucket import Buckets, Rate
from ironwire.protocol.conversations.slots import Leaf

POOL_PACKAGES = 20
"""Published packages of one device, besides its last resort."""
LOW_WATER = 8
"""Below this the device is asked for more."""
LIFETIME_SECONDS = 90 * 86_400
EARLY_SECONDS = 86_400
"""A device whose clock is ahead may publish what is not valid for another day."""

_CLAIMS = Rate(per_second=30 / 3_600, burst=30)
"""Claims of one client, each for up to `limits.claim_clients`."""
_CLAIMS_OF_DEVICE = Rate(per_second=3 / 86_400, burst=3)
"""Packages of one device that one client takes."""
_MOST_KEYS = 100_000


@frozen
class Offer:
    """A key package as far as the rules look at it; its signatures and its certificate are right. Times are Unix
    seconds.
    """

    leaf: Leaf
    """The client that has certified its signature key, and that key."""
    has_our_capabilities: bool
    not_before: int
    not_after: int


def fault_of(offer: Offer, device: Leaf, now_seconds: int) -> str | None:
    """Why `device` may not publish it; None if it may."""
    if offer.leaf != device:
        return "it is not certified for this device"
    if not offer.has_our_capabilities:
        return "it has other capabilities than those of this protocol"
    if not offer.not_before <= now_seconds + EARLY_SECONDS:
        return "it is not valid yet"
    if not now_seconds < offer.not_after:
        return "it has expired"
    if offer.not_after - offer.not_before > LIFETIME_SECONDS:
        return "it is valid for too long"
    return None


@define
class ClaimRules:
    """Who may take from a pool. Time is in seconds of any monotonic clock."""

    _claims: Buckets[ClientId] = field(init=False, factory=lambda: Buckets(_CLAIMS, _MOST_KEYS))
    _of_device: Buckets[tuple[ClientId, Leaf]] = field(
        init=False, factory=lambda: Buckets(_CLAIMS_OF_DEVICE, _MOST_KEYS)
    )

    def begin(self, claimer: ClientId, now: float) -> bool:
        """Count one claim. False: it gets last resorts alone."""
        return self._claims.take(claimer, 1, now) == 0

    def may_take(self, claimer: ClientId, target: Leaf, now: float) -> bool:
        """Count one package of `target`. False: it gets the last resort. One's own devices are not counted."""
        return claimer == target.client or self._of_device.take((claimer, target), 1, now) == 0
