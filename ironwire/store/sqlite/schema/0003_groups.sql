-- A group as it stands. It goes with its last member.
CREATE TABLE roster (
    id    TEXT    PRIMARY KEY,
    epoch INTEGER NOT NULL,
    name  TEXT
) STRICT, WITHOUT ROWID;

-- Who is in a group, numbered in the order in which they came. `reads_from` is the last envelope before that: a member reads the history
-- from there on.
CREATE TABLE member (
    number     INTEGER PRIMARY KEY,
    roster     TEXT    NOT NULL,
    client     TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    reads_from INTEGER NOT NULL,
    UNIQUE (roster, client)
) STRICT;

CREATE INDEX member_by_client ON member (client);

-- `client` wants nothing from `blocked`.
CREATE TABLE block (
    client  TEXT NOT NULL,
    blocked TEXT NOT NULL,
    PRIMARY KEY (client, blocked)
) STRICT, WITHOUT ROWID;

-- Whether the recipient had blocked the sender: then the history shows it to its sender alone.
ALTER TABLE envelope ADD COLUMN is_blocked INTEGER NOT NULL DEFAULT 0;

-- The history of a group: its id begins with '#', before every digit.
CREATE INDEX archived_of_group ON envelope (recipient, id) WHERE is_archived = 1 AND recipient < '0';
