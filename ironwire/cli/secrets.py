"""What happens in encrypted conversations, in words: a warning where the server or somebody else does what is not to
be, one grey line where devices come and go.
"""

from attrs import define, field
from rich.text import Text

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.render import notice
from ironwire.cli.terminal import counted
from ironwire.client.events import ConversationEvent
from ironwire.ids import Address, ClientId, Role

_ALARM = "bold red"


def secret_event(event: ConversationEvent, book: AddressBook) -> Text | None:
    """An event of an encrypted conversation, as one line, if it has one."""
    match event:
        case iw.Secured(by=by, restarted=True):
            return notice(f"encryption was restarted by {book.label(by)}")
        case iw.MessagesHeld(to=to, reason=None):
            return notice(f"what waited for {book.label(to)} goes out now")
        case iw.MessagesHeld(to=to, reason="keys"):
            label = book.label(to)
            return notice(f"messages to {label} wait: no device of {label} has published keys yet", "magenta")
        case iw.MessagesHeld(to=to):
            label = book.label(to)
            return notice(f"messages to {label} wait: a device of another member has to let this one in", "magenta")
        case iw.Secured(by=by):
            return notice(f"encrypted from now on, by {book.label(by)}")
        case iw.MembersChanged(by=by, added=added, removed=removed, roles=roles):
            return notice(f"{book.label(by)} changed who is in it: {_members(book, added, removed, dict(roles))}")
        case iw.DevicesChanged(added=added, removed=removed):
            whose = sorted({book.label(client) for client, _ in (*added, *removed)})
            return notice(f"devices of {', '.join(whose)} changed", "dim")
        case iw.GroupRenamed(by=by, name=name):
            return notice(f"{book.label(by)} calls the group {name}")
        case iw.Unreadable(sender=sender, is_given_up=True):
            return notice(f"a message of {book.label(sender)} is lost: nobody has sent it again", _ALARM)
        case iw.Unreadable(sender=sender, reason=reason):
            return notice(f"a message of {book.label(sender)} cannot be read yet: {reason}", "magenta")
        case iw.NotEncrypted(sender=sender):
            return notice(f"NOT ENCRYPTED: anybody may have written the last message of {book.label(sender)}", _ALARM)
        case iw.CommitRefused(by=by, reason=reason):
            return notice(f"a change in the name of {book.label(by)} is not valid, and was refused: {reason}", _ALARM)
        case iw.LogDisputed(client=client):
            return notice(f"the server hides, or has altered, which devices {book.label(client)} has", _ALARM)
        case iw.DeviceRenewed():
            return notice("the store was put back from a copy: this device has a new key, and catches up", "magenta")
        case iw.OwnRecordsChanged(records=records):
            return notice(f"{counted(len(records), 'name or mark')} came from another device of yours", "dim")
        case iw.HistoryProgress(problem=problem) if problem:
            return notice(f"a part of the history cannot be had: {problem}", _ALARM)
        case iw.HistoryProgress(is_given=is_given, done=done, total=total, is_complete=is_complete):
            way = "to" if is_given else "from"
            return notice(f"history {way} another device: {done} of {total}{', complete' * is_complete}", "dim")
        case iw.DeviceLinked():
            return None  # `NewsSource` tells of it, unless it was linked here


def _members(
    book: AddressBook, added: tuple[ClientId, ...], removed: tuple[ClientId, ...], roles: dict[ClientId, Role]
) -> str:
    said = [f"{book.label(client)} came" for client in added]
    said += [f"{book.label(client)} went" for client in removed]
    said += [f"{book.label(client)} is {role} now" for client, role in roles.items() if client not in added]
    return ", ".join(said)


@define(eq=False)
class SecrecyNotices:
    """Says of each conversation whether it is encrypted: once, and again where that changes."""

    _book: AddressBook
    _said: dict[Address, bool] = field(factory=dict, init=False)

    def of(self, peer: Address, *, is_encrypted: bool) -> Text | None:
        """The line for the conversation with `peer`, if it was not said before."""
        if self._said.get(peer) is is_encrypted:
            return None
        self._said[peer] = is_encrypted
        label = self._book.label(peer)
        if is_encrypted:
            return notice(f"encrypted: only devices that are in the conversation with {label} read it")
        return notice(f"not encrypted: the server can read the conversation with {label}", "magenta")
