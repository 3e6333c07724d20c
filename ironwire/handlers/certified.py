"""Devices with a certificate, and answers that the handlers of encrypted conversations share."""

from ironwire.delivery.hub import Endpoint
from ironwire.ids import DeviceId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.contract.conversations import StoredConversation
from ironwire.wire.messages import Error

NO_KEY = Error("forbidden", detail="this session has no certificate: authenticate with one")


def leaf_of(endpoint: Endpoint) -> tuple[Leaf, DeviceId] | None:
    """The device of a session with a certificate, by its key, and by its name."""
    principal = endpoint.principal
    if principal.device_key is None or principal.device is None:
        return None
    return Leaf(principal.client, principal.device_key.raw), principal.device


def place_of(current: StoredConversation | None) -> tuple[int, int]:
    """Its generation and epoch."""
    return (0, 0) if current is None else (current.generation, current.epoch)


def conflict_with(current: StoredConversation) -> Error:
    detail = f"the conversation is in generation {current.generation}, epoch {current.epoch}"
    return Error("conflict", detail=detail, generation=current.generation, epoch=current.epoch)


def too_often(wait_seconds: float) -> Error:
    return Error("rate_limited", retry_after_ms=int(wait_seconds * 1000) + 1)
