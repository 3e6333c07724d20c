"""How messages look: as lines for people, and as JSON for programs.

Rule: whatever a peer or a server chose has passed `terminal.printable` before it is in a `Text`, and what is printed as
JSON is ASCII.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.cells import cell_len
from rich.filesize import decimal
from rich.text import Text

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.terminal import counted, printable, printable_lines
from ironwire.ids import Address, ClientId, MessageId, Role
from ironwire.wire.codec import encode

YOU = "you"
_INDENT = " " * len("00:00 ")
ROLES: dict[Role, str] = {"admin": "an admin", "member": "a member"}


def now() -> datetime:
    """The time on the user's wall."""
    return datetime.now().astimezone()


def when(unix_ms: int | None) -> datetime:
    """A time of the server's, where there is one and the calendar has such a day; else now."""
    try:
        return now() if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000).astimezone()
    except (OverflowError, ValueError, OSError):
        return now()


def speaker(
    message: iw.DeliveredText | iw.DeliveredFile, book: AddressBook, own: ClientId, here: Address | None = None
) -> str:
    """The speaker, by the name that this user has for them; and in which group, or, for a copy from another device, to
    whom, where that is not `here`.
    """
    place = message.group or message.to
    if message.sender == own and place is not None:
        return YOU if place == here else f"{YOU} → {book.label(place)}"
    name = book.label(message.sender)
    return name if message.group is None or message.group == here else f"{name} in {book.label(message.group)}"


def received(
    message: iw.DeliveredText | iw.DeliveredFile, sender: str, at: datetime, *, fetch: str | None = None
) -> Text:
    """A message from `sender`, by the name that this user has for them. `fetch` is the command that gets a file, where
    that is not the one of a chat.
    """
    lines = _file_lines(message, fetch) if isinstance(message, iw.DeliveredFile) else _text_lines(message.text)
    return _utterance(sender, "bold bright_blue", at, lines)


def elsewhere(message: iw.DeliveredText | iw.DeliveredFile, sender: str, place: str) -> Text:
    """A message in another conversation than the one that is shown: one line, which cannot be taken for one of it."""
    said = message.text if isinstance(message, iw.DeliveredText) else sent_file(message.name)
    return notice(f"elsewhere, {sender}: {' '.join(said.split())}  (/to {place})", "magenta")


def sent_file(name: str | None) -> str:
    """The line of a file that this user sent."""
    return f"sends “{name}”" if name else "sends a file"


def own(text: str, at: datetime, problem: str | None = None, *, mark: str = "  ✓") -> Text:
    """A line of this user's: accepted by the server, or with the `problem` that kept it from being delivered."""
    lines = _text_lines(text)
    if problem is None:
        lines[-1].append(mark, "bright_blue")
    else:
        lines[-1].append(f"  ✗ not delivered: {printable(problem)}", "bold red")
    return _utterance(YOU, "bold", at, lines)


def group_change(
    change: iw.GroupChanged, book: AddressBook, own: ClientId, at: datetime, here: Address | None = None
) -> Text:
    """A change of a group, in one line; and of which group, where that is not `here`."""
    return Text.assemble((f"{_clock(at)} ", "dim"), (printable(change_told(change, book, own, here)), "dim"))


def change_told(change: iw.GroupChanged, book: AddressBook, own: ClientId, here: Address | None = None) -> str:
    """The same without the time; a name in it is as the group's admin wrote it."""
    place = "" if change.group == here else f" in {book.label(change.group)}"
    doer, deeds = _names([change.by], book, own), ", ".join(_deeds(change, book, own))
    return f"{doer}{place} {deeds}"


def _deeds(change: iw.GroupChanged, book: AddressBook, own: ClientId) -> Iterator[str]:
    if change.epoch == 1:
        yield "made the group"
    if change.name is not None:
        yield f"named it “{change.name}”"
    if others := [client for client in change.added if client != change.by]:
        yield f"added {_names(others, book, own)}"
    if change.removed == [change.by]:
        yield "left"
    elif change.removed:
        yield f"removed {_names(change.removed, book, own)}"
    for member in change.roles:
        if member.client not in change.added:
            yield f"made {_names([member.client], book, own)} {ROLES[member.role]}"


def _names(clients: Iterable[ClientId], book: AddressBook, own: ClientId) -> str:
    return ", ".join(YOU if client == own else book.label(client) for client in clients)


def roster(group: iw.GroupDetails, book: AddressBook, own: ClientId, code: str | None = None) -> list[Text]:
    """A group, a line for each of its members, and the code of its MLS epoch if it is encrypted."""
    name = f"“{printable(group.name)}”  " if group.name else ""
    head = Text.assemble((name, "bold"), group.group, (f"  epoch {group.epoch}", "dim"))
    labels = [YOU if member.client == own else book.label(member.client) for member in group.members]
    width = max(map(cell_len, labels))
    lines = [
        Text.assemble("  ", label, " " * (width - cell_len(label)), f"  {member.role:6}  ", (member.client, "dim"))
        for label, member in zip(labels, group.members, strict=True)
    ]
    return [head, *lines, *([] if code is None else [Text.assemble("  code  ", (iw.in_groups(code), "bold"))])]


def members(group: iw.GroupDetails, book: AddressBook, own: ClientId, code: str | None = None) -> list[str]:
    """The same for a conversation, however narrow it is; ids are those of people who are not among the contacts."""
    name = f"“{printable(group.name)}”, " if group.name else ""
    lines = [f"{name}{group.group}"]
    for member in group.members:
        label = YOU if member.client == own else book.label(member.client)
        is_named = member.client == own or book.entry(member.client) == label
        lines.append(f"{label}{'' if is_named else f' is {member.client}'}, {ROLES[member.role]}")
    if code is not None:
        lines.append(f"code {iw.in_groups(code)}, the same for all of you")
    return lines


def remembered(
    entry: iw.HistoryEntry,
    book: AddressBook,
    own_id: ClientId,
    peer: Address,
    *,
    fetch: str | None = None,
    source: str | None = None,
) -> Text:
    """An entry of the conversation with `peer`, as the device keeps it; `source` is the own device that told of it."""
    line = _remembered(entry, book, own_id, peer, fetch)
    return line if source is None else line.append(f"  from {printable(source)}", "dim")


def _remembered(entry: iw.HistoryEntry, book: AddressBook, own_id: ClientId, peer: Address, fetch: str | None) -> Text:
    message, at = entry.message, when(entry.message.ts)
    if isinstance(message, iw.GroupChanged):
        return group_change(message, book, own_id, at, peer)
    return _said(entry, message, book, own_id, peer, fetch) + _amended(entry, book, own_id)


def amendment(body: iw.Amendment, by: ClientId, book: AddressBook, own: ClientId, at: datetime) -> Text:
    """What somebody says of a message at that moment, in one line."""
    match body:
        case iw.EditBody(text=text):
            deed = f"changed a message: {text}"
        case iw.DeleteBody():
            deed = "deleted a message"
        case _:
            whose = "your message" if body.to.sender == own else "a message"
            deed = f"took back the reaction to {whose}" if body.emoji is None else f"reacted to {whose}: {body.emoji}"
    return Text.assemble((f"{_clock(at)} ", "dim"), (printable(f"{_names([by], book, own)} {deed}"), "dim"))


def _amended(entry: iw.HistoryEntry, book: AddressBook, own_id: ClientId) -> Text:
    """What was said later of an entry."""
    reactions = [f"{YOU if by == own_id else book.label(by)} {printable(emoji)}" for by, emoji in entry.reactions]
    told = [*(["edited"] if entry.is_edited else []), *reactions]
    return Text(f"  ({', '.join(told)})" if told else "", "dim")


def _said(
    entry: iw.HistoryEntry,
    message: iw.DeliveredText | iw.DeliveredFile,
    book: AddressBook,
    own_id: ClientId,
    peer: Address,
    fetch: str | None,
) -> Text:
    at = when(message.ts)
    if message.sender != own_id:
        return received(message, speaker(message, book, own_id, peer), at, fetch=fetch)
    said = message.text if isinstance(message, iw.DeliveredText) else sent_file(message.name)
    match entry.state:
        case "refused":
            return own(said, at, "the server refused it")
        case "queued":
            return own(said, at, mark="  … not sent yet")
        case _:
            return own(said, at, mark=f"  ✓ {entry.receipt}" if entry.receipt else "  ✓")


def notice(text: str, style: str = "dim") -> Text:
    """Something that the program itself has to say."""
    return Text(_INDENT + printable(text), style)


_WHY_LOST = {"expired": "expired before this device came", "full": "came while this device's mailbox was full"}


def incident(event: iw.Connected | iw.Disconnected | iw.Missed | iw.Lost | iw.Error) -> Text:
    """An event beside messages: to the connection, or to what this client sent without an id."""
    match event:
        case iw.Connected():
            return notice("connected")
        case iw.Disconnected(reason, retry_seconds):
            next_attempt = "" if retry_seconds is None else f"; next attempt in {retry_seconds:.0f} s"
            return notice(f"{reason}{next_attempt}", "magenta")
        case iw.Missed(count):
            were = "was" if count == 1 else "were"
            return notice(f"{counted(count, 'message')} came too fast and {were} missed", "bold red")
        case iw.Lost(first, last, reason, groups, more_groups):
            changes = "; who is in a group may have changed" if groups or more_groups else ""
            return notice(f"{counted(last - first + 1, 'message')} {_WHY_LOST[reason]}{changes}", "bold red")
        case iw.Error(msg, detail):
            return notice(f"the server says {msg}" + (f": {detail}" if detail else ""), "red")


def as_json(message: iw.Said, id_: MessageId | None, **beside: int | str | None) -> str:
    """The frame as it came, on one line of ASCII; with what stands `beside`, where it is not None."""
    known = {key: value for key, value in beside.items() if value is not None}
    return json.dumps(json.loads(encode(message, id_)) | known)


def _utterance(name: str, style: str, at: datetime, lines: list[Text]) -> Text:
    head = Text.assemble((f"{_clock(at)} ", "dim"), (name, style), " ")
    return head + Text("\n" + " " * head.cell_len).join(lines)


def _text_lines(text: str) -> list[Text]:
    if not text:
        return [Text("(empty)", "dim italic")]
    return [Text(line) for line in printable_lines(text)]


def minutes_and_seconds(duration_ms: int) -> str:
    """How long a voice message or a film lasts."""
    minutes, seconds = divmod(round(duration_ms / 1000), 60)
    return f"{minutes}:{seconds:02}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M}" if at.date() == now().date() else f"{at:%Y-%m-%d %H:%M}"


def download_line(link: str) -> str:
    """The command that gets a file by its path, or by the link of one that is encrypted."""
    return f"ironwire download {shlex.quote(link)}"


def _file_lines(file: iw.DeliveredFile, fetch: str | None) -> list[Text]:
    name = f"“{printable(file.name)}”" if file.name else "a file"
    facts: list[str] = [file.kind or "file"]
    if file.duration_ms is not None:
        facts.append(minutes_and_seconds(file.duration_ms))
    if file.size is not None:
        facts.append(decimal(file.size))
    caption = printable_lines(file.caption) if file.caption else []
    return [
        Text(f"sends {name} ({', '.join(facts)})"),
        *(Text(line, "italic") for line in caption),
        Text(fetch or f"/save {file.url}", "dim"),
    ]
