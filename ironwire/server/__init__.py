"""The only rooms that know Trio sockets, Quart or Hypercorn."""
