"""The protocol's state machines. Pure: a machine is told what happened and answers with what to do; it never waits,
logs, or looks at a clock.
"""
