"""What a device of a client keeps: its key, its queue, its conversations."""
