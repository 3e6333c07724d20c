"""For the server's operator: settings, the log, and the admin socket."""
