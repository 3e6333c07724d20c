"""Test cases as JSON, for every implementation of the protocol: tests in any language read the same files."""
