-- What recovery codes bring back: encrypted, under a name that follows from the code. `size` is that of `body`.
CREATE TABLE backup (
    name      TEXT    PRIMARY KEY,
    client    TEXT    NOT NULL,
    stored_ms INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    body      BLOB    NOT NULL
) STRICT;

CREATE INDEX backup_of_client ON backup (client);
CREATE INDEX backup_size ON backup (size);
