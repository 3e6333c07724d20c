-- A device's mailbox. `tail` is the last seq given out, `acked` the last acknowledged; both only grow. AUTOINCREMENT, so that the id of a
-- mailbox that was removed is never another's: it serves as the epoch.
CREATE TABLE mailbox (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    client        TEXT    NOT NULL,
    device        TEXT    NOT NULL,
    acked         INTEGER NOT NULL DEFAULT 0,
    tail          INTEGER NOT NULL DEFAULT 0,
    waiting       INTEGER NOT NULL DEFAULT 0,
    waiting_bytes INTEGER NOT NULL DEFAULT 0,
    is_full       INTEGER NOT NULL DEFAULT 0,
    created_ms    INTEGER NOT NULL,
    seen_ms       INTEGER NOT NULL,
    UNIQUE (client, device)
) STRICT;

-- An envelope, once, whoever gets it. `owed` counts the entries that point here; at 0 the payload is erased, and the row stays as long as
-- its message id has to be known. Ids grow in the order of acceptance. A sender without a device has device ''.
CREATE TABLE envelope (
    id         INTEGER PRIMARY KEY,
    verb       TEXT    NOT NULL,
    sender     TEXT    NOT NULL,
    device     TEXT    NOT NULL,
    recipient  TEXT    NOT NULL,
    message_id TEXT,
    ts         INTEGER NOT NULL,
    digest     BLOB    NOT NULL,
    owed       INTEGER NOT NULL,
    payload    BLOB
) STRICT;

CREATE UNIQUE INDEX envelope_of_message ON envelope (sender, device, message_id) WHERE message_id IS NOT NULL;

-- One place in a mailbox.
CREATE TABLE entry (
    mailbox  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    envelope INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    is_own   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, seq)
) STRICT, WITHOUT ROWID;
