-- What was accepted and is not in the tables yet, a batch a row, in their order: read again when the file is opened.
CREATE TABLE journal (
    number  INTEGER PRIMARY KEY,
    effects BLOB NOT NULL
) STRICT;

-- Message ids that are taken. The key is a hash of sender, device and id, so it names nobody, and a row takes an eighth of what it took in
-- `envelope`. `recipient` is the group, if the envelope went to one.
CREATE TABLE known (
    key       BLOB    PRIMARY KEY,
    envelope  INTEGER NOT NULL,
    ts        INTEGER NOT NULL,
    digest    BLOB    NOT NULL,
    recipient TEXT
) STRICT, WITHOUT ROWID;

INSERT INTO known
SELECT message_key(sender, device, message_id), id, ts, digest, CASE WHEN recipient < '0' THEN recipient END
FROM envelope WHERE message_id IS NOT NULL AND is_id_known = 1;

CREATE INDEX known_by_age ON known (ts);

-- An envelope is there as long as it is owed or archived, and always with its payload.
DELETE FROM envelope WHERE owed = 0 AND is_archived = 0;
DROP INDEX erased_envelope;
DROP INDEX envelope_of_message;
ALTER TABLE envelope DROP COLUMN is_id_known;
ALTER TABLE envelope DROP COLUMN digest;
CREATE INDEX erased_envelope ON envelope (id) WHERE owed = 0 AND is_archived = 0;
