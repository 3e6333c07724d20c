"""`ironwire call`."""
