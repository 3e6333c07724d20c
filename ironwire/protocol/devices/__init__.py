"""Devices as keys: certificates, the device log, and the numbers that people compare (docs/protocol.md, section 9).

A client is an identity key. Each of its installations has a device key of its own, and two statements of the identity
key stand behind that:

    identity key ──signs──> Certificate   "this device key is mine"              shown by the device, to anybody
                 └─signs──> SignedEntry   "I add, remove, list these devices"    kept by the server, in order
                                  │
                                  v
                             DeviceLog    who is a device now, and who was       kept by every reader

A certificate alone is not enough, because a device is lost now and then and the certificate cannot be taken back. The
log alone would be, and costs a question to the server; so a device has to pass both.

Types, each valid by itself once somebody has it:

    PublicKey, Identity, DeviceKey      crypto/signing.py
    Certificate                         105 bytes; `issue_certificate`, `decode_certificate`, `verify`
    LogEntry ──sign_entry──> SignedEntry <──open_entry── bytes of a peer
    LogHead                             index and hash of an entry: what devices tell each other of a log
    DeviceLog                           entries that follow on each other, and the devices that they lead to
    Extended | RolledBack | Forked | KeyCopied      what a reader finds who compares its log with an offered one
    Evidence                            two signed entries that contradict each other; anybody can check it

Data flow of a change, and of a reader:

    DeviceLog.next_entry ─> sign_entry ─> server: DeviceLog rules and compare-and-set on `prev` ─> every reader
    page of the server ─> open_entry each ─> examine(known, offered) ─> Extended: keep the longer log
                                                                     └> any other: keep the known one and the evidence
    LogHead of a peer ─> DeviceLog.compare ─> "same" | "older" | "newer": ask the server | "other": fork

Rule: bytes have one form. Whatever decodes encodes to the same bytes again, so that a hash names one entry.

The files: certificate.py · log_entry.py (one entry, signed) · log.py (the chain and its rules) · log_reader.py (a log
against another) · safety.py (numbers for people).
"""
