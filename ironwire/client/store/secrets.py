"""What a device keeps of encrypted conversations: tables that the engine fills and is restored from.

Everything here blocks, as `file.py` does.
"""

import json
import sqlite3
from collections.abc import Collection

import orjson
from attrs import astuple, field, frozen

from ironwire.e2e.bodies import AnyBody, TextBody
from ironwire.e2e.content import decode_content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, MessageId, parse_conversation_id
from ironwire.wire.codec import decode_client
from ironwire.wire.messages import Text
from ironwire.wire.strict import strict_converter

Secret = (
    fx.SavedMembership
    | fx.SavedKeys
    | fx.SavedPackage
    | fx.DropPackage
    | fx.SavedLog
    | fx.Missing
    | fx.NoLongerMissing
    | fx.SavedOwn
    | fx.SavedManifest
)

_KEEP_MEMBERSHIP = """
    INSERT INTO membership (conversation, state, founding, founding_keys, facts) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (conversation) DO UPDATE
    SET state = excluded.state, founding = excluded.founding, founding_keys = excluded.founding_keys,
        facts = excluded.facts"""
_KEEP_KEYS = """
    INSERT INTO message_keys (conversation, keys) VALUES (?, ?)
    ON CONFLICT (conversation) DO UPDATE SET keys = excluded.keys"""
_MEMBERSHIPS = """
    SELECT conversation, state, keys, founding, founding_keys, facts
    FROM membership LEFT JOIN message_keys USING (conversation)"""
_KEEP_PACKAGE = """
    INSERT INTO key_package (ref, data, is_last_resort, made_at, destroy_at, is_published, is_used)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (ref) DO UPDATE
    SET destroy_at = excluded.destroy_at, is_published = excluded.is_published, is_used = excluded.is_used"""
_KEEP_LOG = """
    INSERT INTO device_log (client, entries) VALUES (?, ?)
    ON CONFLICT (client) DO UPDATE SET entries = excluded.entries"""
_KEEP_MISSING = "INSERT OR IGNORE INTO missing (conversation, sender, message_id, since) VALUES (?, ?, ?, ?)"
_DROP_MISSING = "DELETE FROM missing WHERE conversation = ? AND sender = ? AND message_id = ?"
_KEEP_OWN = """
    INSERT INTO own_record (kind, key, value, at, by_device) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE
    SET value = excluded.value, at = excluded.at, by_device = excluded.by_device"""
_KEEP_OFFER = """
    INSERT INTO history_offer (source, manifest) VALUES (?, ?)
    ON CONFLICT (source) DO UPDATE SET manifest = excluded.manifest"""
_OPENED = """
    SELECT 1 FROM entry
    WHERE sender = ? AND message_id = ? AND device = ? AND encrypted AND state IN ('unseen', 'seen') LIMIT 1"""
_RECALL = """
    SELECT message_id, ts, frame, content FROM entry
    WHERE sender = ? AND device = ? AND peer = ? AND encrypted AND state = 'accepted'
        AND message_id IN (SELECT value FROM json_each(?))"""

_converter = strict_converter()


@frozen
class KeptSecrets:
    """Everything with which an engine begins."""

    memberships: list[fx.SavedMembership]
    packages: list[fx.SavedPackage]
    logs: list[fx.SavedLog] = field(repr=False)
    missing: list[fx.Missing]
    own: list[OwnRecord]


def keep(database: sqlite3.Connection, secret: Secret) -> None:
    match secret:
        case fx.SavedMembership():
            _keep_membership(database, secret)
        case fx.SavedKeys(conversation, keys):
            database.execute(_KEEP_KEYS, (conversation, keys))
        case fx.SavedPackage():
            database.execute(_KEEP_PACKAGE, astuple(secret))
        case fx.DropPackage(ref):
            database.execute("DELETE FROM key_package WHERE ref = ?", (ref,))
        case fx.SavedLog(client, entries):
            database.execute(_KEEP_LOG, (client, entries))
        case fx.Missing():
            database.execute(_KEEP_MISSING, astuple(secret))
        case fx.NoLongerMissing():
            database.execute(_DROP_MISSING, astuple(secret))
        case fx.SavedOwn(record):
            database.execute(_KEEP_OWN, astuple(record))
        case fx.SavedManifest(source, manifest):
            text = orjson.dumps(_converter.unstructure(manifest))
            database.execute(_KEEP_OFFER, (source.hex(), text))


def _keep_membership(database: sqlite3.Connection, saved: fx.SavedMembership) -> None:
    group, founding = saved.group, saved.founding
    state = None if group is None else group.state
    next_group = (None, None) if founding is None else (founding.state, founding.message_keys)
    database.execute(_KEEP_MEMBERSHIP, (saved.conversation, state, *next_group, saved.facts))
    if group is None:
        database.execute("DELETE FROM message_keys WHERE conversation = ?", (saved.conversation,))
    else:
        database.execute(_KEEP_KEYS, (saved.conversation, group.message_keys))


def load(database: sqlite3.Connection) -> KeptSecrets:
    memberships = database.execute(_MEMBERSHIPS)
    packages = database.execute(
        "SELECT ref, data, is_last_resort, made_at, destroy_at, is_published, is_used FROM key_package"
    )
    logs = database.execute("SELECT client, entries FROM device_log")
    missing = database.execute("SELECT conversation, sender, message_id, since FROM missing")
    return KeptSecrets(
        [
            fx.SavedMembership(parse_conversation_id(name), _group(state, keys), _group(founding, founding_keys), facts)
            for name, state, keys, founding, founding_keys, facts in memberships
        ],
        [
            fx.SavedPackage(ref, data, bool(is_last), made, destroy, bool(is_published), bool(is_used))
            for ref, data, is_last, made, destroy, is_published, is_used in packages
        ],
        [fx.SavedLog(ClientId(client), entries) for client, entries in logs],
        [
            fx.Missing(parse_conversation_id(name), ClientId(sender), MessageId(message_id), since)
            for name, sender, message_id, since in missing
        ],
        [OwnRecord(*row) for row in database.execute("SELECT kind, key, value, at, by_device FROM own_record")],
    )


def _group(state: bytes | None, message_keys: bytes | None) -> fx.SavedGroup | None:
    return None if state is None or message_keys is None else fx.SavedGroup(state, message_keys)


def recall(
    database: sqlite3.Connection, client: ClientId, device: str, to: Address, ids: Collection[MessageId]
) -> list[fx.Recalled]:
    """Encrypted messages of this device, as they are sent again."""
    rows = database.execute(_RECALL, (client, device, to, json.dumps([*ids])))
    found = [(MessageId(message_id), _body(frame, content), ts) for message_id, ts, frame, content in rows]
    return [fx.Recalled(message_id, body, ts) for message_id, body, ts in found if body is not None]


def _body(frame: str, content: bytes | None) -> AnyBody | None:
    if content is not None:
        return decode_content(content, None).body
    message, _, _ = decode_client(frame)
    return TextBody(message.text) if isinstance(message, Text) else None


def was_opened(database: sqlite3.Connection, sender: ClientId, device: str, message_id: MessageId) -> bool:
    """Whether an encrypted message of this device has come before."""
    return database.execute(_OPENED, (sender, message_id, device)).fetchone() is not None


def forget(database: sqlite3.Connection) -> None:
    """Destroy every key."""
    database.execute("UPDATE membership SET state = NULL, founding = NULL, founding_keys = NULL")
    database.execute("DELETE FROM message_keys")
    database.execute("DELETE FROM key_package")
