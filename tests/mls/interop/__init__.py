"""Groups whose members run two implementations: `ironwire.mls`, and ts-mls under Node."""
