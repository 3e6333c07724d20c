-- What the person has told one of their devices, and all are to know: names, and who is verified. `at` and `by_device` are of the last change.
CREATE TABLE own_record (
    kind      TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    by_device TEXT    NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- History that another own device has for this one: its newest manifest, as JSON; and the parts that are done with, perhaps for a `reason` why one
-- cannot be had.
CREATE TABLE history_offer (
    source   TEXT PRIMARY KEY,
    manifest BLOB NOT NULL
) STRICT;

CREATE TABLE history_part (
    sha256 TEXT PRIMARY KEY,
    reason TEXT
) STRICT;

-- History that this device gives to another own device, after a yes: messages since `since`, from the newest on. Entries from `before` on are in the
-- parts of the manifest already; `told` says how much of that the other device was told.
CREATE TABLE history_gift (
    device   TEXT    PRIMARY KEY,
    since    INTEGER NOT NULL,
    before   INTEGER NOT NULL,
    manifest BLOB    NOT NULL,
    told     BLOB    NOT NULL
) STRICT;

-- Which own device has told of this entry; NULL for what came to this device itself. What was told has numbers below 0.
ALTER TABLE entry ADD COLUMN told_by TEXT;
