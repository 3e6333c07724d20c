"""`ironwire chat`."""
