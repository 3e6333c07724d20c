"""The encrypted conversations of a device, for a backup, and on a new device from one (docs/between-devices.md, section
12.2).

A new device knows of each that it is encrypted, and no keys: it says nothing in the clear there, and asks to be added
again. Of a pair it knows who may begin it anew; the roster of a group comes with the welcome.

Everything here blocks, as `file.py` does.
"""

from collections.abc import Iterable
from pathlib import Path

from ironwire.client.store import secrets
from ironwire.client.store.file import LocalFile, as_local_store_error, opened_for_reading
from ironwire.client.store.records import Absorb, Owner
from ironwire.client.store.sealed import StoreKey
from ironwire.e2e.backup import BackupConversation
from ironwire.e2e.conversations.effects import SavedMembership
from ironwire.e2e.conversations.membership import Facts, facts_of, saved_facts
from ironwire.ids import ClientId, Role, is_group
from ironwire.protocol.conversations.declaration import encode_roster


def read_conversations(path: Path, owner: Owner, key: StoreKey) -> list[BackupConversation]:
    """Those in which the device is; none where it has no file. The conversation of the client with itself is no news to
    anybody, and is left out.

    Raises:
        LocalStoreError: the file belongs to somebody else, or cannot be read.
    """
    if not path.exists():
        return []
    with opened_for_reading(path, owner, key) as database:
        saved = secrets.load(database).memberships
    known = [(each.conversation, facts_of(each)) for each in saved]
    return [
        BackupConversation(conversation, facts.generation, facts.name if is_group(conversation) else None, facts.peer)
        for conversation, facts in known
        if facts.generation and not facts.is_out and facts.peer != owner.client
    ]


def begin_with(path: Path, owner: Owner, key: StoreKey, known: Iterable[BackupConversation], now_ms: int) -> None:
    """Have the new device know of these, in its file.

    Raises:
        LocalStoreError: it cannot be written, or another program has it.
    """
    with as_local_store_error(path):
        file = LocalFile.open(path, owner, key)
        try:
            saved = [
                SavedMembership(each.conversation, None, None, saved_facts(_facts(each, owner.client, now_ms)))
                for each in known
            ]
            file.apply([Absorb(tuple(saved))])
        finally:
            file.close()


def _facts(known: BackupConversation, own: ClientId, now_ms: int) -> Facts:
    if known.peer is None:
        return Facts(name=known.name, wedged_at=now_ms)
    both: dict[ClientId, Role] = {own: "admin", known.peer: "admin"}
    roster = encode_roster(both).hex()
    return Facts(generation=known.generation, roster=roster, peer=known.peer, wedged_at=now_ms)
