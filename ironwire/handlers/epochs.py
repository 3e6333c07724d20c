"""Where an encrypted conversation stands, and the answers that say so."""

from ironwire.store.contract.conversations import StoredConversation
from ironwire.wire.messages import Error


def place_of(current: StoredConversation | None) -> tuple[int, int]:
    """Its generation and epoch."""
    return (0, 0) if current is None else (current.generation, current.epoch)


def conflict_with(current: StoredConversation) -> Error:
    detail = f"the conversation is in generation {current.generation}, epoch {current.epoch}"
    return Error("conflict", detail=detail, generation=current.generation, epoch=current.epoch)


def too_often(wait_seconds: float) -> Error:
    return Error("rate_limited", retry_after_ms=int(wait_seconds * 1000) + 1)
