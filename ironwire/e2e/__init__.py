"""Data that only devices read: encrypted files, the inside of messages, recovery, history, linking. No room of the
server imports it.
"""
