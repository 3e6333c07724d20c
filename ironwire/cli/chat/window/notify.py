"""A bell and a desktop notification, for a terminal that shows something else than this window.

OSC 9 (iTerm2, kitty, WezTerm, Ghostty) and OSC 777 (foot, rxvt-unicode, VTE) ask the terminal for a notification.
Others may print what they do not know, so only those that are known to understand get one. In tmux and screen there is
the bell alone.
"""

import math
from collections.abc import Mapping

from attrs import define

from ironwire.cli.chat.window.cells import clipped, steady

FOCUS_REPORTS_ON = "\x1b[?1004h"
FOCUS_REPORTS_OFF = "\x1b[?1004l"

BELL_SECONDS = 2.0
"""The shortest time between two notifications, however much comes."""

_BELL = "\x07"
_NOTICE_CELLS = 120
_TITLE = "IronWire"
_OSC_9_PROGRAMS = ("iTerm.app", "WezTerm", "ghostty")
_OSC_9_TERMS = ("xterm-kitty", "xterm-ghostty", "wezterm")
_OSC_777_TERMS = ("foot", "rxvt-unicode")


@define(eq=False)
class Bell:
    """The bell, with the time of its last ring on Trio's clock."""

    _rung_at: float = -math.inf

    def is_due(self, clock: float) -> bool:
        """Whether it may ring now; if so, it counts as rung."""
        if clock < self._rung_at + BELL_SECONDS:
            return False
        self._rung_at = clock
        return True


def notification(text: str, environment: Mapping[str, str]) -> str:
    """The sequence that announces `text`, on the terminal that `environment` describes.

    Whatever somebody else wrote in it has no control character any more, and cannot end the sequence.
    """
    body = clipped(steady(text), _NOTICE_CELLS)
    match _kind(environment):
        case 9:
            # Behind the title, so that no text can look like one of the commands that ConEmu has under 9.
            return f"{_BELL}\x1b]9;{_TITLE}: {body}\x1b\\"
        case 777:
            return f"{_BELL}\x1b]777;notify;{_TITLE};{body.replace(';', ',')}\x1b\\"
        case _:
            return _BELL


def _kind(environment: Mapping[str, str]) -> int | None:
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return None
    if program in _OSC_9_PROGRAMS or term.startswith(_OSC_9_TERMS):
        return 9
    if term.startswith(_OSC_777_TERMS) or "VTE_VERSION" in environment:
        return 777
    return None
