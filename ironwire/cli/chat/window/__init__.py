"""The chat window: a device's conversations in one full-screen terminal window.

controller.py   Trio: the client's events in, what the person wants out ── reader.py  the device's file
  update.py     the state, for both threads, and what changes it ── model.py  what it is
shell.py        prompt-toolkit, in its thread ── keys.py
  view.py       the panes ── history.py  a conversation ── cells.py  widths
notify.py       bell and desktop notification
"""

from ironwire.cli.chat.window.controller import hold_window

__all__ = ["hold_window"]
