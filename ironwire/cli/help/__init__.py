"""What the commands say of themselves: help, completion, manual pages."""
