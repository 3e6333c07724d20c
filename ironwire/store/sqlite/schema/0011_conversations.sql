-- The newest generation of an encrypted conversation. `slots` holds its leaves: client id (32 bytes) and device key (32), or as many zeros for
-- a blank one; `devices` counts those that are not blank; `roster` holds its clients, with their roles.
CREATE TABLE conversation (
    id         TEXT    PRIMARY KEY,
    generation INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    group_id   BLOB    NOT NULL,
    slots      BLOB    NOT NULL,
    roster     BLOB    NOT NULL,
    devices    INTEGER NOT NULL
) STRICT;

-- Who is in which roster.
CREATE TABLE conversation_member (
    client       TEXT NOT NULL,
    conversation TEXT NOT NULL,
    PRIMARY KEY (client, conversation)
) STRICT, WITHOUT ROWID;

-- The commits of the retention period, for devices that have missed one. `epoch` is the one that it began.
CREATE TABLE conversation_commit (
    conversation TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    ts           INTEGER NOT NULL,
    payload      BLOB    NOT NULL,
    PRIMARY KEY (conversation, generation, epoch)
) STRICT;

CREATE INDEX commit_by_age ON conversation_commit (ts);

-- Changes that a member has to commit, until one has.
CREATE TABLE conversation_task (
    conversation TEXT NOT NULL,
    kind         TEXT NOT NULL,
    client       TEXT NOT NULL,
    device_key   BLOB NOT NULL,
    PRIMARY KEY (conversation, kind, client, device_key)
) STRICT, WITHOUT ROWID;

-- Key packages. One that was taken stays without its bytes until it has expired, so that it is not published again.
CREATE TABLE key_package (
    number         INTEGER PRIMARY KEY,
    client         TEXT    NOT NULL,
    device_key     BLOB    NOT NULL,
    ref            BLOB    NOT NULL UNIQUE,
    init_key       BLOB    NOT NULL UNIQUE,
    data           BLOB    NOT NULL,
    is_last_resort INTEGER NOT NULL,
    not_after_ms   INTEGER NOT NULL,
    is_taken       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX package_of_device ON key_package (client, device_key, is_taken, is_last_resort, number);
CREATE INDEX package_by_end ON key_package (not_after_ms);

-- To whom a package was handed out, and for which conversation.
CREATE TABLE package_claim (
    conversation TEXT    NOT NULL,
    claimer      TEXT    NOT NULL,
    ref          BLOB    NOT NULL,
    client       TEXT    NOT NULL,
    device_key   BLOB    NOT NULL,
    claimed_ms   INTEGER NOT NULL,
    PRIMARY KEY (conversation, claimer, ref)
) STRICT, WITHOUT ROWID;

CREATE INDEX claim_by_age ON package_claim (claimed_ms);

-- A device whose mailbox is gone is added by nobody any more, and has to be removed from its client's conversations.
CREATE TRIGGER device_removed AFTER DELETE ON mailbox WHEN old.device_key IS NOT NULL BEGIN
    DELETE FROM key_package WHERE client = old.client AND device_key = old.device_key;
    DELETE FROM conversation_task
        WHERE conversation IN (SELECT conversation FROM conversation_member WHERE client = old.client)
            AND kind IN ('add', 'readd') AND client = old.client AND device_key = old.device_key;
    INSERT OR IGNORE INTO conversation_task
        SELECT conversation, 'remove', client, old.device_key FROM conversation_member WHERE client = old.client;
END;

-- One that has a mailbox again, before anybody has removed it, stays where it is.
CREATE TRIGGER device_came AFTER INSERT ON mailbox WHEN new.device_key IS NOT NULL BEGIN
    DELETE FROM conversation_task
        WHERE conversation IN (SELECT conversation FROM conversation_member WHERE client = new.client)
            AND kind = 'remove' AND client = new.client AND device_key = new.device_key;
END;

CREATE TRIGGER device_bound AFTER UPDATE OF device_key ON mailbox WHEN new.device_key IS NOT NULL BEGIN
    DELETE FROM conversation_task
        WHERE conversation IN (SELECT conversation FROM conversation_member WHERE client = new.client)
            AND kind = 'remove' AND client = new.client AND device_key = new.device_key;
END;
