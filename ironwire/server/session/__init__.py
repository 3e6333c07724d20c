"""One WebSocket session: handshake, admission, rates, and its nursery."""
