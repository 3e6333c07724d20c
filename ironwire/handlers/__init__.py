"""What a session can ask for besides sending envelopes, and what the operator can."""
