-- How many members a group has, for those who ask which groups they are in: counted anew for each of a thousand groups it took seconds.
ALTER TABLE roster ADD COLUMN members INTEGER NOT NULL DEFAULT 0;
UPDATE roster SET members = (SELECT count(*) FROM member WHERE member.roster = roster.id);
