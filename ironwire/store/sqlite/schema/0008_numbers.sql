-- What the device of a mailbox numbers: which of its sessions is the newest, up to where everything is settled, and which of the last ones were
-- refused, as a JSON list of [first, last, code].
ALTER TABLE mailbox ADD COLUMN session INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN sent    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN refused TEXT    NOT NULL DEFAULT '[]';
