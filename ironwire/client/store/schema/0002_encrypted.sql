-- The inside of a message that is encrypted, as JSON, where `frame` does not say all of it; and whether it came, or went, encrypted.
ALTER TABLE entry ADD COLUMN content BLOB;
ALTER TABLE entry ADD COLUMN encrypted INTEGER NOT NULL DEFAULT 0;

-- This device's place in each encrypted conversation: the MLS group there, the one that it founds, and facts as JSON. A group is stored in two
-- parts, because its state has hundreds of kilobytes in a large group, and every message changes the message keys alone. What a new part
-- replaces is overwritten (secure_delete): keys that were used are nowhere.
CREATE TABLE membership (
    conversation  TEXT PRIMARY KEY,
    state         BLOB,
    founding      BLOB,
    founding_keys BLOB,
    facts         BLOB NOT NULL
) STRICT;

CREATE TABLE message_keys (
    conversation TEXT PRIMARY KEY,
    keys         BLOB NOT NULL
) STRICT;

-- Key packages of this device with their private halves. Times are Unix ms.
CREATE TABLE key_package (
    ref            BLOB    PRIMARY KEY,
    data           BLOB    NOT NULL,
    is_last_resort INTEGER NOT NULL,
    made_at        INTEGER NOT NULL,
    destroy_at     INTEGER NOT NULL,
    is_published   INTEGER NOT NULL,
    is_used        INTEGER NOT NULL
) STRICT;

-- Device logs of clients, as far as they are known here: signed entries one after the other.
CREATE TABLE device_log (
    client  TEXT PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT;

-- Messages that could not be read, and are asked for again.
CREATE TABLE missing (
    conversation TEXT    NOT NULL,
    sender       TEXT    NOT NULL,
    message_id   TEXT    NOT NULL,
    since        INTEGER NOT NULL,
    PRIMARY KEY (conversation, sender, message_id)
) STRICT, WITHOUT ROWID;

-- How often this file was opened and closed by a device that encrypts. The same number stands beside the device's key: where it is higher, this
-- file was put back from a copy.
ALTER TABLE mailbox ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;

-- What clients say later of messages: another text, that one is deleted, a reaction. `sender` and `message_id` name the message.
CREATE TABLE amendment (
    peer       TEXT    NOT NULL,
    sender     TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    by         TEXT    NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('edit', 'delete', 'reaction')),
    ts         INTEGER NOT NULL,
    value      TEXT,
    PRIMARY KEY (peer, sender, message_id, by, kind)
) STRICT, WITHOUT ROWID;
