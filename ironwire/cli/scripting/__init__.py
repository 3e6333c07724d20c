"""Commands for scripts, and for people who want one thing done."""
