-- An archived envelope keeps its payload after its last ack, until it is older than the history that the operator keeps.
ALTER TABLE envelope ADD COLUMN is_archived INTEGER NOT NULL DEFAULT 0;

-- Whether the message id is taken. It ends before the row does when the envelope reached nobody, so that the id may come
-- again, and when the history is longer than the retention period.
ALTER TABLE envelope ADD COLUMN is_id_known INTEGER NOT NULL DEFAULT 1;

DROP INDEX envelope_of_message;
CREATE UNIQUE INDEX envelope_of_message ON envelope (sender, device, message_id)
    WHERE message_id IS NOT NULL AND is_id_known = 1;

-- The history of two, newest last. Empty, and so free of cost, where no history is kept.
CREATE INDEX envelope_of_pair ON envelope (sender, recipient, id) WHERE is_archived = 1;
CREATE INDEX archived_by_age ON envelope (ts) WHERE is_archived = 1;

-- Ids grow in the order of acceptance and clocks are set back now and then, so age needs an index of its own.
CREATE INDEX envelope_by_age ON envelope (ts);

-- What nobody owes, knows or keeps any more: empty, but between a release and the statement that follows it.
CREATE INDEX erased_envelope ON envelope (id)
    WHERE owed = 0 AND is_archived = 0 AND (message_id IS NULL OR is_id_known = 0);
