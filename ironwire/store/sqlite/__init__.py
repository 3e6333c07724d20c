"""The durable store: a journal, a memtable and tables in one SQLite file.

Theory of operation
===================

Most envelopes are acknowledged within a second of their acceptance. To put each into the tables, and take it out again,
would touch five B-trees twice. So the store writes a log first, as log-structured stores do (docs/decisions/0010):

    batch ──> mailboxes in memory ──> journal: one row ──> COMMIT ──> results
              memtable: the envelopes        │
                                             │  checkpoint, oldest rows first
                                             v
                                          tables

- **Journal** (`journal.py`). A batch writes one row: which envelope got which number and which entries, what was
  acknowledged, and how each mailbox stands. Tables and journal together are what was committed. To replay a row twice,
  or one that the tables have already, changes nothing.
- **Memtable** (`memtable.py`). The envelopes of the rows in the journal, by number and by message id. A reader finds an
  envelope in the tables or in the memtable, never in both.
- **Mailboxes in memory** (`mailboxes.py`). Every mailbox that a row of the journal names, and others that were used of
  late. Their counters include the current batch; `committed` leaves it out.
- **Checkpoint.** Brings the oldest rows of the journal into the tables, without the entries that were acknowledged
  meanwhile, and deletes the rows; all of it in the transaction of a batch.
- **Watermarks.** A checkpoint begins when the journal weighs `HIGH_WATERMARK`, and ends below `LOW_WATERMARK`. The
  weight is the number of effects, and a KiB of payload counts as one more. The newest rows always stay: the acks of
  their envelopes are on the way.

Groups, blocks, bans, device logs, lost changes and new devices are rare, and go into the tables at once, in the same
transaction. Expiry, erasure, the removal of a device, the release of an id and a copy work on the tables, and
checkpoint everything first.

Invariants:

1. The caches of the writer hold what is committed and what the current batch has changed. A transaction that was undone
   clears them, and they are read again, journal included, before anything is answered.
2. A mailbox that no row of the journal names is in the tables as it is; one that a row names is in memory.
3. An envelope stands in the table as long as an entry points at it (`owed` > 0) or the history keeps it.
4. Numbers of envelopes grow in the order of acceptance. The memtable's `_committed` is the last that is on the disk.

The files, from the outside inwards:

    store.py        the contract, one turn at a time, and the glance
    database.py     connections, transactions, and the threads that wait for the disk
    writer.py       batches, and what becomes of envelopes
    directory.py    groups, blocks, bans; device_log.py: device logs
    devices.py      devices, acks, and what leaves mailboxes
    mailboxes.py    the mailboxes in memory; journal.py is their log
    memtable.py     one mailbox, recent envelopes, and known message ids
    pages.py        pages of mailboxes and of the history
    losses.py, expiry.py, erasure.py    what leaves the tables
    migrations.py, copy.py, schema/     the file and its versions
"""
