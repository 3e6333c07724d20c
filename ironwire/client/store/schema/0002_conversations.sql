-- Why the server refused what is refused.
ALTER TABLE entry ADD COLUMN reason TEXT;

-- Each conversation: its newest entry, and the last one that a person has read. So to list them takes no walk through all entries.
CREATE TABLE conversation (
    peer      TEXT    PRIMARY KEY,
    newest    INTEGER NOT NULL,
    read_upto INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

INSERT INTO conversation (peer, newest, read_upto)
SELECT peer, max(number), max(number) FROM entry WHERE peer IS NOT NULL GROUP BY peer;
