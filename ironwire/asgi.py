"""The ASGI application: `hypercorn --worker-class trio ironwire.asgi:app`.

Importing it reads the settings, sets up the log, and puts the guarded parts of Hypercorn in place.
"""

import sys

from ironwire.errors import ConfigError
from ironwire.server.app import create_app
from ironwire.server.hypercorn import give_up
from ironwire.server.loading import load_settings
from ironwire.server.logs import configure_logging

try:
    settings = load_settings()
except ConfigError as error:
    print(f"ironwire: {error}", file=sys.stderr)
    give_up()

configure_logging(settings.log, sys.stderr)
app = create_app(settings)
