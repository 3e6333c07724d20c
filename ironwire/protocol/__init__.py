"""The protocol's state machines. Pure: a machine gets an event and returns the actions; it never waits, logs, or reads
a clock.
"""
