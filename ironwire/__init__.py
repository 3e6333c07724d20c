"""IronWire: a secure real-time messaging server, and the client that talks to it.

Start reading at `docs/architecture.md`; the wire protocol is `docs/protocol.md`.
"""

__version__ = "0.2.0"
