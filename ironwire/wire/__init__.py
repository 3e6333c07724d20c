"""What crosses the socket, without any I/O: frames, messages, and the one converter between JSON and messages."""
