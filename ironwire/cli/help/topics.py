"""Explanations that belong to no command alone: texts of `ironwire help` and of the manual pages of section 7."""

from typing import NamedTuple

Part = str | dict[str, str]
"""A paragraph, or terms with what they mean."""


class Topic(NamedTuple):
    """Something to know that belongs to no command alone."""

    summary: str
    parts: tuple[Part, ...]


TOPICS = {
    "environment": Topic(
        "Environment variables, and the folders that IronWire uses.",
        (
            "An option on the command line overrules its variable.",
            {
                "IRONWIRE_KEY": "The file of your identity, as --key. Without either it is identity.key in the folder "
                "ironwire of your configuration folder: ~/.config/ironwire/identity.key.",
                "IRONWIRE_PASSPHRASE": "Unlocks a sealed identity, and seals a new one. Without it you are asked, if "
                "there is a terminal.",
                "IRONWIRE_SERVER": "Where the server is, as --server. Without either it is http://localhost:8080.",
                "XDG_CONFIG_HOME": "Your configuration folder, if it is not ~/.config.",
                "XDG_DATA_HOME": "The folder in which ironwire keeps the history and the unsent messages of your "
                "devices, if it is not ~/.local/share.",
                "SSL_CERT_FILE": "A file with the certificates of the authorities to trust, in place of the system's: "
                "for a server whose certificate no public authority has signed.",
                "NO_COLOR": "If it is not empty, nothing is coloured.",
            },
            "For the server:",
            {
                "IRONWIRE_SETTINGS": "The settings file, as --config. Without either it is ironwire.toml in the "
                "working folder, if there is one.",
                "IRONWIRE_SECTION_NAME": "Any setting, by its section and its name: IRONWIRE_SERVER_PORT=9000 is port "
                "in the section server. A list has commas between its items. Those without a "
                "section have only their name: IRONWIRE_DATA.",
            },
            """The server refuses to start where any other variable begins with IRONWIRE_, so that a misspelt setting is
            never ignored. `ironwire config show` says which value holds, and where it comes from.""",
        ),
    ),
    "keys": Topic(
        "Identities: what a key file is, where it is kept and how to keep it safe.",
        (
            """You are a key: the file is all it takes to write in your name and to read what comes for you, and nothing
            else will do. No server can give it back: keep a copy, or make a recovery code (`ironwire recovery create`).
            `ironwire keygen` makes the file, at
            ~/.config/ironwire/identity.key unless PATH, --key or IRONWIRE_KEY names another place.""",
            """The file is text: one line that names the client id, and one with the seed of an Ed25519 key. With a
            passphrase the seed is sealed (Argon2id, XChaCha20-Poly1305). `ironwire keygen` asks for one, or takes it
            from IRONWIRE_PASSPHRASE; --no-passphrase leaves the key unsealed. Only its owner may read the file (mode
            0600): one that others can read is refused.""",
            """The client id is the public half, 64 hex digits, and the address of your messages. `ironwire id` prints
            it. It is no secret: give it to the people who are to write to you.""",
            """A computer that has this file is an owner device. Others are linked (`ironwire device link`): their file
            holds a key of their own in its place, which an owner can revoke. Link devices; do not copy the file.""",
            """Beside the key are, under its name: .contacts; .verified, whom you have verified; .devices, what your
            devices are called; .log, the list of your devices, signed; .NAME.device, the key of a device here; and
            .recovery, what is kept of your recovery code, sealed. The history of your devices is kept in
            the data folder: see `ironwire help environment`.""",
        ),
    ),
    "exit-codes": Topic(
        "What a script can tell from $?.",
        (
            {
                "0": "done; of a message also: kept on this device, which sends it when it is used again. Standard "
                "error says so then, and --json has `waiting` in the place of `ts`",
                "1": "refused by the server, or the recipient is offline; the doctor found a fault",
                "2": "a mistake in the command, in a setting, in an id or in the identity's file",
                "3": "the server cannot be reached, or did not answer in time",
                "4": "the server refused the identity",
                "5": "a file did not get across: it cannot be read or written, or is not what was promised or "
                "asked for",
                "130": "interrupted",
            },
            """What went wrong stands on standard error, in a line or two; standard output has results alone. A message
            that was kept is sent once, however the command ended: do not send it again.""",
        ),
    ),
}
