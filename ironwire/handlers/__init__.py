"""Handlers of the requests of sessions, envelopes aside, and of those of the operator."""
