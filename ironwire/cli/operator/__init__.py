"""Commands for a server's operator."""
