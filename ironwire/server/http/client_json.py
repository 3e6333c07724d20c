"""`GET /client.json`: what a client wants to know before it connects, and what a refused WebSocket cannot tell a page
(docs/protocol.md, section 8).

It holds no secret and depends on nobody who asks, so a page of any origin may read it.
"""

from collections.abc import Callable, Iterable, Sequence

from attrs import asdict
from quart import Blueprint, Response, request

from ironwire.ids import Origin
from ironwire.limits import Limits
from ironwire.server.http.responses import json_response
from ironwire.server.session.admission import PROTOCOL, announced

HEADERS = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}


def client_json_routes(
    version: str,
    registration: str,
    features: Sequence[str],
    limits: Limits,
    origins_at: Callable[[tuple[str, int | None] | None], Iterable[Origin]],
) -> Blueprint:
    """The route.

    Args:
        origins_at: which origins are served on a connection that arrived at an address.
    """
    routes = Blueprint("client_json", __name__)

    @routes.get("/client.json")
    async def client_json() -> Response:
        response = json_response(
            {
                "protocol": PROTOCOL,
                "version": version,
                "origins": sorted(origins_at(request.scope.get("server"))),
                "registration": registration,
                "upload_token": "upload_token" in features,
                "features": [*features],
                "limits": asdict(announced(limits)),
            }
        )
        response.headers.update(HEADERS)
        return response

    return routes
