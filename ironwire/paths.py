"""Where the files of this user are, by the XDG Base Directory Specification and the environment."""

import os
from pathlib import Path

from ironwire.errors import NoHome

PATH_VARIABLE = "IRONWIRE_KEY"


def default_identity_path() -> Path:
    """`$IRONWIRE_KEY`, else `ironwire/identity.key` in the configuration folder.

    Raises:
        NoHome: that is in the home folder of a user who has none.
    """
    named = os.environ.get(PATH_VARIABLE)
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        if named:
            return Path(named).expanduser()
        folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    except RuntimeError:
        raise NoHome(
            f"this user has no home folder: set HOME, or name the identity's file in {PATH_VARIABLE}"
        ) from None
    return folder / "ironwire" / "identity.key"
