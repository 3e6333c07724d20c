"""Connections, from the accepted socket to an HTTP request or an open WebSocket: Hypercorn, guarded."""
