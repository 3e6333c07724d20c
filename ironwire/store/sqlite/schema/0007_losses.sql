-- The last number of the mailbox that has expired. What is missing behind it was lost because the mailbox was full.
ALTER TABLE mailbox ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
UPDATE mailbox SET expired = tail;

-- Between which numbers of a mailbox changes of a group were lost, until the last of them is acknowledged. A mailbox has so many groups
-- here and no more; those beyond stand together under the name ''.
CREATE TABLE lost_change (
    mailbox INTEGER NOT NULL,
    roster  TEXT    NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, roster)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER mailbox_removed AFTER DELETE ON mailbox BEGIN
    DELETE FROM lost_change WHERE mailbox = old.id;
END;
