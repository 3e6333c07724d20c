"""The durable store: a journal, a memtable and tables in one SQLite file."""
