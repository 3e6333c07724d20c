"""Where the files of this user are, by the XDG Base Directory Specification and the environment."""

import os
from pathlib import Path

PATH_VARIABLE = "IRONWIRE_KEY"


def default_identity_path() -> Path:
    """`$IRONWIRE_KEY`, else `ironwire/identity.key` in the configuration folder."""
    named = os.environ.get(PATH_VARIABLE)
    if named:
        return Path(named).expanduser()
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return folder / "ironwire" / "identity.key"
