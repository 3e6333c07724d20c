"""The ASGI application: `hypercorn --worker-class trio ironwire.asgi:app`.

Importing it reads the settings, sets up the log, and puts the guarded parts of Hypercorn in place.
"""

import sys

from ironwire.errors import ConfigError
from ironwire.server.app import create_app
from ironwire.server.listener.hypercorn import give_up
from ironwire.server.operator.loading import load
from ironwire.server.operator.logs import configure_logging, report_ignored, standard_error

try:
    loaded = load()
except ConfigError as error:
    print(f"ironwire: {error}", file=sys.stderr)
    give_up()

configure_logging(loaded.settings.log, standard_error(), in_thread=True)
report_ignored(loaded)
app = create_app(loaded.settings)
