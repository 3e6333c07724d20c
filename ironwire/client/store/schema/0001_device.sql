-- Whose file this is, and how far the device's mailbox is stored here: `seq` is the last number of this `epoch`, 0 before the first, and
-- `highest` the highest number under which this device has sent in it. One row.
CREATE TABLE mailbox (
    client  TEXT    NOT NULL,
    device  TEXT    NOT NULL,
    origin  TEXT    NOT NULL,
    epoch   INTEGER NOT NULL DEFAULT 0,
    seq     INTEGER NOT NULL DEFAULT 0,
    highest INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What this device sent and what came to it, in the order in which it was stored: frames as they cross the socket. What goes out is queued,
-- then accepted or refused, for a `reason`; what comes in is unseen, then seen. `peer` is the conversation, and NULL for what belongs to
-- none: receipts and gaps, which are erased once they are seen. AUTOINCREMENT, so that a number is never another's. A sender without a
-- device has device ''. `n` is the number under which a queued message was sent, or may have been.
CREATE TABLE entry (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    state      TEXT    NOT NULL,
    peer       TEXT,
    sender     TEXT    NOT NULL,
    device     TEXT    NOT NULL,
    message_id TEXT,
    ts         INTEGER NOT NULL,
    receipt    TEXT,
    reason     TEXT,
    n          INTEGER,
    frame      TEXT    NOT NULL
) STRICT;

CREATE INDEX entry_queued ON entry (number) WHERE state = 'queued';
CREATE INDEX entry_unseen ON entry (number) WHERE state = 'unseen';
CREATE INDEX entry_of_peer ON entry (peer, number) WHERE peer IS NOT NULL;
CREATE INDEX entry_of_message ON entry (sender, message_id, device) WHERE message_id IS NOT NULL;
CREATE UNIQUE INDEX entry_numbered ON entry (n) WHERE n IS NOT NULL AND state = 'queued';

-- Each conversation: its newest entry, and the last one that a person has read. So to list them takes no walk through all entries.
CREATE TABLE conversation (
    peer      TEXT    PRIMARY KEY,
    newest    INTEGER NOT NULL,
    read_upto INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
