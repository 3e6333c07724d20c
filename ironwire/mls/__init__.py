"""Messaging Layer Security (RFC 9420), cipher suite 3 alone, without I/O and without a clock."""
