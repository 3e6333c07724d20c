-- Signed entries, as they came. `head` is the hash that the next one names.
CREATE TABLE device_log (
    client    TEXT    NOT NULL,
    number    INTEGER NOT NULL,
    entry     BLOB    NOT NULL,
    signature BLOB    NOT NULL,
    head      BLOB    NOT NULL,
    PRIMARY KEY (client, number)
) STRICT, WITHOUT ROWID;

-- The devices that a log leads to, those that it has removed included: so nobody has to read the log to know one.
CREATE TABLE logged_device (
    client     TEXT    NOT NULL,
    device_key BLOB    NOT NULL,
    is_owner   INTEGER NOT NULL,
    added_ms   INTEGER NOT NULL,
    removed_ms INTEGER,
    PRIMARY KEY (client, device_key)
) STRICT, WITHOUT ROWID;

-- The device key that the mailbox belongs to, if it was registered with one.
ALTER TABLE mailbox ADD COLUMN device_key BLOB;
