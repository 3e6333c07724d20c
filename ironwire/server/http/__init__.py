"""The HTTP routes: upload, media, pages, probes, metrics."""
