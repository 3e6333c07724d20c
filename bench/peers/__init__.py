"""Servers to compare with, each in the plainest form that does the work. They run where IronWire is not installed."""
