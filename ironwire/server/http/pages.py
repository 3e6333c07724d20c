"""The public routes without state of their own (docs/protocol.md, section 8): the page for people, `/client.json` for
clients, and `/ws` without an upgrade.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from importlib.resources import files

from attrs import asdict, frozen
from markupsafe import Markup
from quart import Blueprint, Response, render_template, request

from ironwire import __version__
from ironwire.ids import Origin
from ironwire.limits import Limits
from ironwire.server.http.responses import error_response, json_response
from ironwire.server.session.admission import PROTOCOL, announced

_STYLE = (files("ironwire.server.http") / "templates" / "home.css").read_text()
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HOME_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@frozen
class Status:
    """The numbers on the page for people. They are public: of the whole server, and without a name."""

    version: str
    sessions: int
    uptime_seconds: float
    is_draining: bool


def page_routes(status: Callable[[], Status], origin: Origin | None) -> Blueprint:
    """The routes for people.

    Args:
        origin: where clients reach this server; `None` for the host that each request names.
    """
    routes = Blueprint("pages", __name__, template_folder="templates")

    @routes.get("/")
    async def home() -> Response:
        here = origin or f"{request.scheme}://{request.host}"
        now = status()
        page = await render_template(
            "home.html",
            style=Markup(_STYLE),  # noqa: S704 - a file of the package; escaping would break it
            status=now,
            uptime=describe_seconds(now.uptime_seconds),
            origin=here,
            socket_url=f"ws{here.removeprefix('http')}/ws",
        )
        headers = {"Content-Security-Policy": _HOME_POLICY, "Cache-Control": "no-store"}
        return Response(page, headers=headers, content_type="text/html; charset=utf-8")

    @routes.get("/ws")
    async def websocket_only() -> Response:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return error_response(426, "upgrade_required", "a WebSocket: connect with ws:// or wss://", headers)

    return routes


def client_json_routes(
    registration: str,
    features: Sequence[str],
    limits: Limits,
    origins_at: Callable[[tuple[str, int | None] | None], Collection[Origin]],
) -> Blueprint:
    """`GET /client.json`: the facts that a client needs before it connects. A page cannot learn them from a refused
    WebSocket.

    It holds no secret and is the same for everybody, so a page of any origin may read it.

    Args:
        origins_at: the origins that are served on a connection to this address and port.
    """
    routes = Blueprint("client_json", __name__)

    @routes.get("/client.json")
    async def client_json() -> Response:
        response = json_response(
            {
                "protocol": PROTOCOL,
                "version": __version__,
                "origins": sorted(origins_at(request.scope.get("server"))),
                "registration": registration,
                "upload_token": "upload_token" in features,
                "features": [*features],
                "limits": asdict(announced(limits)),
            }
        )
        response.headers.update({"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"})
        return response

    return routes


def describe_seconds(seconds: float) -> str:
    """A duration in its two largest units: `3 d 4 h`, `12 min 5 s`, `0 s`."""
    whole = timedelta(seconds=int(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(whole.days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])
