"""A conversation as lines on the screen, and how it is scrolled.

    block     an entry, with the day above it where that is a new one; a note; a transfer
    position  the block and the line in it that stand lowest: so what comes below moves nothing

Only the blocks that are seen are laid out, however long the conversation is.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from attrs import frozen
from rich.filesize import decimal

from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window.cells import Fragment, Line, cells, clipped, steady, steady_lines, width_of, wrapped
from ironwire.cli.chat.window.model import Note, Position, Thread, WindowState
from ironwire.cli.failures import refusal
from ironwire.cli.render import YOU, change_told, minutes_and_seconds, when
from ironwire.cli.terminal import SHORT_ID_CHARS
from ironwire.client import DeliveredFile, GroupChanged, HistoryEntry, Refused
from ironwire.ids import ClientId

_CLOCK = "00:00 "
_INDENT = " " * len(_CLOCK)
_ID_CELLS = SHORT_ID_CHARS + 1
_BAR_CELLS = 12
_WAVE_CELLS = 24
_WAVE = "▁▂▃▄▅▆▇█"
_LOUDEST = 255
_SIGNS = {"image": "▧", "voice": "▶", "circle": "◯"}
_SPEAKERS = 3
"""Colours that tell the members of a group apart."""


@frozen
class _Block:
    """`key` orders blocks: the number of an entry, and what stands behind it."""

    key: tuple[int, int]
    content: HistoryEntry | Note | Transfer


def visible_lines(state: WindowState, thread: Thread, width: int, height: int) -> list[Line]:
    """The visible lines, at most `height`, where `thread` is scrolled to."""
    blocks = _blocks(thread)
    end, hidden = _place(blocks, thread.position)
    lines: list[Line] = []
    for index in range(end, -1, -1):
        block_lines = _lines(state, thread, blocks, index, width)
        if index == end:
            block_lines = block_lines[: max(0, len(block_lines) - hidden)]
        lines = block_lines + lines
        if len(lines) >= height:
            break
    return lines[-height:] if height > 0 else []


def scrolled(state: WindowState, thread: Thread, up: int, width: int, height: int) -> tuple[Position | None, bool]:
    """Where `thread` is after it was scrolled `up`, and whether its first line is near.

    The screen is full wherever there are enough lines.
    """
    blocks = _blocks(thread)
    index, hidden = _place(blocks, thread.position)
    if index < 0:
        return None, True

    def length(of: int) -> int:
        return len(_lines(state, thread, blocks, of, width))

    hidden += up
    while index > 0 and hidden >= length(index):
        hidden -= length(index)
        index -= 1
    above = -hidden
    for earlier in range(index, -1, -1):
        above += length(earlier)
        if above >= 2 * height:
            break
    if above < height:
        hidden -= height - above
    while hidden < 0:
        index += 1
        if index == len(blocks):
            return None, above < 2 * height
        hidden += length(index)
    at_bottom = index == len(blocks) - 1 and hidden == 0
    return None if at_bottom else Position(blocks[index].key, hidden), above < 2 * height


def _blocks(thread: Thread) -> list[_Block]:
    entries = [_Block((entry.number, 0), entry) for entry in thread.entries]
    notes = [_Block((note.after, 1 + index), note) for index, note in enumerate(thread.notes)]
    last = thread.last_number
    transfers = [_Block((last, 1 + len(notes) + transfer.key), transfer) for transfer in thread.transfers]
    return sorted(entries + notes + transfers, key=lambda block: block.key)


def _place(blocks: Sequence[_Block], position: Position | None) -> tuple[int, int]:
    """The lowest block that is seen, and how many of its lines are below the screen."""
    if position is None:
        return len(blocks) - 1, 0
    index = next((index for index, block in enumerate(blocks) if block.key >= position.key), len(blocks) - 1)
    return index, position.lines


def _lines(state: WindowState, thread: Thread, blocks: Sequence[_Block], index: int, width: int) -> list[Line]:
    match blocks[index].content:
        case HistoryEntry() as entry:
            at = when(entry.message.ts)
            before = next((b.content for b in reversed(blocks[:index]) if isinstance(b.content, HistoryEntry)), None)
            is_new_day = before is None or when(before.message.ts).date() != at.date()
            return ([_day(at, width)] if is_new_day else []) + _entry_lines(state, thread, entry, at, width)
        case Note(_, remark):
            room = max(2, width - len(_INDENT))
            parts = [part for line in steady_lines(remark.text) for part in wrapped(line, room)]
            return [[("", _INDENT), (f"class:{remark.tone}", part)] for part in parts]
        case Transfer() as transfer:
            return [_transfer(transfer, width)]


def _day(at: datetime, width: int) -> Line:
    text = f"── {at:%A}, {at.day} {at:%B %Y} "
    return [("class:muted", clipped(text + "─" * max(0, width - len(text)), width))]


def _entry_lines(state: WindowState, thread: Thread, entry: HistoryEntry, at: datetime, width: int) -> list[Line]:
    message = entry.message
    clock: Fragment = ("class:muted", f"{at:%H:%M} ")
    if isinstance(message, GroupChanged):
        told = steady(change_told(message, state.book, state.own, thread.peer))
        return _hung([clock], [("class:muted", told)], width)
    is_own = message.sender == state.own
    name = ("class:own", YOU) if is_own else _name(state, message.sender, width)
    if isinstance(message, DeliveredFile):
        said = _file_lines(message, None if is_own else entry.number, width)
    else:
        said = [("", line) for line in steady_lines(message.text)] if message.text else [("class:muted", "(empty)")]
    lines = _hung([clock, name, ("class:muted", ": ")], said, width)
    return _with_fate(lines, entry, width) if is_own else lines


def _name(state: WindowState, client: ClientId, width: int) -> Fragment:
    return speaker_style(state, client), clipped(state.label(client), max(_ID_CELLS, width // 2 - len(_CLOCK)), "~")


def speaker_style(state: WindowState, client: ClientId) -> str:
    """The style of a speaker: contacts have a colour each, ids without a name have none."""
    return f"class:speaker{int(client[:8], 16) % _SPEAKERS}" if state.is_known(client) else "class:unknown"


def _hung(head: Line, said: list[Fragment], width: int) -> list[Line]:
    """`said` behind `head`; from its second line on below, so that nobody can write a line that looks like a head."""
    room = max(2, width - len(_INDENT))
    lines: list[Line] = []
    for style, paragraph in said:
        taken = 0 if lines else width_of(head) - len(_INDENT)
        for part in wrapped(paragraph, room, taken):
            lines.append([*([("", _INDENT)] if lines else head), (style, part)])
    return lines


def _with_fate(lines: list[Line], entry: HistoryEntry, width: int) -> list[Line]:
    """The lines with the sign for the fate of the entry, on the last line or on a line of its own."""
    style, sign = _fate(entry)
    *head, (last_style, last) = lines[-1]
    last_line: Line = [*head, (last_style, last.rstrip(" "))]
    if width_of(last_line) + 1 + cells(sign) <= width:
        return [*lines[:-1], [*last_line, (style, f" {sign}")]]
    return [*lines, *([("", _INDENT), (style, part)] for part in wrapped(sign, max(2, width - len(_INDENT))))]


def _fate(entry: HistoryEntry) -> Fragment:
    match entry.state, entry.receipt:
        case "queued", _:
            return "class:warning", "… queued"
        case "refused", _:
            reason = refusal(Refused(entry.reason)) if entry.reason else "the server refused it"
            return "class:error", f"✗ not delivered: {steady(reason)}"
        case _, "read":
            return "class:read", "✓✓ read"
        case _, "delivered":
            return "class:muted", "✓✓"
        case _:
            return "class:muted", "✓"


def _file_lines(file: DeliveredFile, number: int | None, width: int) -> list[Fragment]:
    sign = _SIGNS.get(file.kind or "file", "▤")
    facts = [steady(file.name) if file.name else f"a {file.kind or 'file'}"]
    if file.duration_ms is not None:
        facts.append(minutes_and_seconds(file.duration_ms))
    if file.width is not None and file.height is not None:
        facts.append(f"{file.width}x{file.height}")
    if file.size is not None:
        facts.append(decimal(file.size))
    wave = [("class:wave", waveform(file.waveform, min(_WAVE_CELLS, width - len(_INDENT))))] if file.waveform else []
    caption = [("", line) for line in steady_lines(file.caption)] if file.caption else []
    save = [("class:muted", f"/save {number}")] if number is not None else []
    return [("", f"{sign} {', '.join(facts)}"), *wave, *caption, *save]


def waveform(loudness: Sequence[int], width: int) -> str:
    """Loudness, 0 to 255, as a row of bars: each as high as the loudest part of its share."""
    count = max(1, min(width, len(loudness)))
    bounds = [index * len(loudness) // count for index in range(count + 1)]
    peaks = [max(loudness[first:last]) for first, last in pairwise(bounds)]
    return "".join(_WAVE[peak * (len(_WAVE) - 1) // _LOUDEST] for peak in peaks)


def _transfer(transfer: Transfer, width: int) -> Line:
    arrow = "↑" if transfer.direction == "up" else "↓"
    share = transfer.done / transfer.total if transfer.total else 0.0
    full = int(share * _BAR_CELLS)
    bar = "█" * full + "░" * (_BAR_CELLS - full)
    name = clipped(steady(transfer.name), max(4, width - len(_INDENT) - _BAR_CELLS - len("↑  100 % ")))
    return [("", _INDENT), ("class:warning", f"{arrow} {name} {bar} {100 * share:.0f} %")]
