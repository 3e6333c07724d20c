"""The wire format, without I/O: frames, messages, and the one converter between JSON and messages."""
