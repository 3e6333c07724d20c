-- Under which number a queued message was sent, or may have been; and the highest number that was given in this epoch of the mailbox.
ALTER TABLE entry ADD COLUMN n INTEGER;
ALTER TABLE mailbox ADD COLUMN highest INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX entry_numbered ON entry (n) WHERE n IS NOT NULL AND state = 'queued';
