"""What this machine makes of the server, beside other servers: `python -m bench`, or `nox -s bench -- ARGUMENTS`.

    __main__ ── sections ──┬─ flows      relay, durable relay, fan-out, many connections     load.py ── load.c
                           ├─ arrivals   connect and authenticate, memory                    crowd.py
                           ├─ files      upload and download
                           ├─ depth      mailboxes in which much waits
                           ├─ mls        groups of MLS, in this process
                           ├─ device     the encrypted file of a device, in this process
                           └─ profile    where the microseconds go                           py-spy
             └── report ── table.py, plot.py, goals.py

Rule: everybody gets the same work from the same clients, in turn, in one run. The peers in `peers/` speak the seed
protocol, keep what their figure needs them to keep, and are installed from PyPI and npm on first use (`cache.py`).
"""
