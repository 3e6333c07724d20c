"""Encrypted conversations as a device lives them (docs/protocol.md, section 10; docs/between-devices.md, section 11).

`engine.py` is the way in, and draws the parts; `effects.py` is the way out. What can be known of a conversation without
keys is in `ironwire.protocol.conversations`, the cryptography in `ironwire.mls`.

    device         keyed ──log──> logged ──mls_publish──> ready                   packages.py
    membership     absent, founding, active, pending, wedged, restarting, out     membership.py
    message        waiting ──> under way ──> sent, waiting again, refused         outgoing.py
    change         wanted ──> drafted ──> committed ──> brought back              changes.py
    key package    made ──> published ──> used, replaced ──> destroyed            packages.py

Nothing here knows a clock, a loop, a socket or a file: an engine is given the time and the randomness, is told what
came, and answers with `Effects`.
"""
