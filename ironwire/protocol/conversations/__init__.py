"""Encrypted conversations, as far as no key is needed for them (docs/protocol.md, section 10).

A conversation is a pair of clients (`@…`) or a server group (`#…`); a generation is one MLS group of it. Its members
hold the tree and the keys. What server and members both have to know of it, they get from the same functions:

    Slots         the leaves of the tree as a list                              slots.py
    Declaration   what a commit is for, signed by its committer in it           declaration.py
    Roles         who is in the conversation, and as what; its hash is signed   declaration.py
    check         whether a commit may do what it does                          membership.py

                 commit ──MLS──> proposals, sender, path ──┐
                    └─authenticated data─> Declaration ────┤
    ConversationState(slots, roster) ──────────────────────┼─> check ─> Checked(slots, roster): the next state
    Logs(devices of each client; what the server says) ────┘       └─> ChangeRefused

The server alone:

    Offer ──fault_of──> published ──ClaimRules──> claimed, or the last resort    key_packages.py
    Task ──helpers──> Leases ──> the one device that is asked to commit          tasks.py

`tests/vectors/conversations` has cases for every implementation of the first four.
"""
