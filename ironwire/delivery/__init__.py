"""Moving envelopes: submitted, committed, fanned out to mailboxes and sessions, flushed; and who is here (the hub)."""
