"""The contract of a store: operations and their results, records, and the rules that all stores share.

store.py        the whole contract: what is atomic, ordered and durable, and the two kinds of reads
operations/     what a store can be asked to change, and what comes of it; a module of each subject
records.py      mailboxes, entries, envelopes
directory.py, device_log.py, backups.py, maintenance.py    reads and other changes, by subject
order.py, losses.py    rules that all stores share
"""
