"""SIGHUP reloads the certificate and the level of the log in a running server.

All other settings stay as they were at the start. Rule: invalid settings change nothing, and a reload disturbs no
session.
"""

from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext

import structlog
from hypercorn.config import Config

from ironwire.errors import ConfigError
from ironwire.server.operator.config import Settings
from ironwire.server.operator.logs import set_level

_log = structlog.get_logger(__name__)


class ReloadableConfig(Config):
    """Hypercorn's settings, whose certificate can be replaced while it serves."""

    _context: SSLContext | None = None

    def create_ssl_context(self) -> SSLContext | None:
        self._context = super().create_ssl_context()
        return self._context

    def replace_certificate(self, certfile: Path, keyfile: Path) -> None:
        """Use the new certificate for handshakes from now on. Open connections keep the old one.

        Raises:
            OSError: the files cannot be read, or do not belong together.
        """
        if self._context is not None:
            self._context.load_cert_chain(certfile, keyfile, password="")


def reload(config: ReloadableConfig, load: Callable[[], Settings]) -> None:
    """Apply the settings that `load` returns now, and log the outcome."""
    try:
        settings = load()  # also tries the certificate
        certfile, keyfile = settings.server.certfile, settings.server.keyfile
        if certfile is not None and keyfile is not None:
            config.replace_certificate(certfile, keyfile)
    except (ConfigError, OSError) as error:
        _log.error("the settings cannot be used, and nothing was changed", reason=str(error))
        return
    set_level(settings.log)
    _log.info("took up the settings again", level=settings.log.level, certfile=certfile and str(certfile))
