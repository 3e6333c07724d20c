"""Attacks on the server, timed by bystanders: `python -m attack`.

Each attack has a fresh server, started by the plain command with default settings, a process that attacks it, with low
priority because the machine is one and the network is not, and a process of bystanders whose texts are timed before,
during and after. `docs/reports/audit.md` is written from a run. Everything is loopback, bounded in number and time.
"""
