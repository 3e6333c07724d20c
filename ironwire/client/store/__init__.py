"""The durable state of a device: its key, its queue, its conversations."""
