-- Whom the operator keeps out.
CREATE TABLE ban (
    client    TEXT    PRIMARY KEY,
    banned_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
