"""HTTP for the tests of routes: an application of nothing but routes, and responses read from raw bytes."""

import json
from pathlib import Path
from typing import Any

from attrs import frozen
from quart import Blueprint
from quart_trio import QuartTrio

from ironwire.server.http.responses import install_response_rules


def app_of(*routes: Blueprint) -> QuartTrio:
    app = QuartTrio(__name__, static_folder=None)
    install_response_rules(app)
    for blueprint in routes:
        app.register_blueprint(blueprint)
    return app


@frozen
class RawResponse:
    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def parse_response(data: bytes) -> RawResponse:
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return RawResponse(int(status_line.split()[1]), headers, body)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
