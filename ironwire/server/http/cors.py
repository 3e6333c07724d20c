"""What lets the pages of `auth.web_origins` use files over HTTP: CORS, as browsers ask for it (Fetch, section 3.3).

A page of another site gets no such header, and so its browser keeps the answer from it. Everything is said without
credentials: the server knows no cookies, and a token is a header that the page writes itself.
"""

from collections.abc import Collection

from quart import Blueprint, Response, request

_MAX_AGE_SECONDS = 7200
"""How long a browser need not ask again; Chromium remembers no longer."""
_ASKED = "Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range"
_TOLD = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, "
    "Retry-After, WWW-Authenticate, X-Request-Id"
)


def install_cors(routes: Blueprint, web_origins: Collection[str]) -> None:
    """Let the pages of these sites ask what `routes` serve, and read every answer, errors too."""

    @routes.after_request
    async def allow(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None or origin not in web_origins:
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = response.headers["Allow"]
            response.headers["Access-Control-Allow-Headers"] = _ASKED
            response.headers["Access-Control-Max-Age"] = str(_MAX_AGE_SECONDS)
        else:
            response.headers["Access-Control-Expose-Headers"] = _TOLD
        return response
