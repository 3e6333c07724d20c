"""Rules for all HTTP responses: errors as JSON, two security headers, and CORS (docs/protocol.md, section 8).

Handlers are async throughout, whether or not they wait: Quart calls a plain function in a thread.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Literal

import orjson
from attrs import field, frozen
from quart import Blueprint, Quart, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ironwire.errors import IronWireError

HttpErrorCode = Literal[
    "invalid",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "timeout",
    "conflict",
    "precondition_failed",
    "too_large",
    "range_not_satisfiable",
    "upgrade_required",
    "rate_limited",
    "internal",
    "storage_full",
]
"""The value of `error`: a closed set, for programs. `detail` is for people."""

JSON_TYPE = "application/json"

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""Browsers guess no other content type, and send no Referer with links followed from a response."""

_ERRORS: dict[int, tuple[HttpErrorCode, str]] = {
    400: ("invalid", "this is no request that the server understands, or it ended before its end"),
    403: ("forbidden", "pages of this site may not open a socket here"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method; Allow names those that it takes"),
    429: ("rate_limited", "too much from this address: come back later"),
    431: ("too_large", "the head of the request is too large"),
    500: ("internal", "something went wrong in the server, and is in its log"),
    501: ("invalid", "the body comes in an encoding that the server does not know"),
    505: ("invalid", "the server speaks HTTP/1.1 alone"),
}

_CORS_SECONDS = 7200
"""How long a browser may remember the answer to a preflight; Chromium remembers no longer."""
_CORS_REQUEST_HEADERS = "Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range"
_CORS_RESPONSE_HEADERS = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, "
    "Retry-After, WWW-Authenticate, X-Request-Id"
)


def error_body(status: int) -> bytes:
    """The body of an error response with this status that no handler has written."""
    fallback: HttpErrorCode = "invalid" if status < 500 else "internal"
    code, detail = _ERRORS.get(status, (fallback, HTTPStatus(status).phrase))
    return orjson.dumps({"error": code, "detail": detail})


def json_response(body: object, status: int = 200) -> Response:
    """`body` as compact JSON, its keys in the order given."""
    return Response(orjson.dumps(body), status=status, content_type=JSON_TYPE)


def error_response(status: int, code: HttpErrorCode, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error": code, "detail": detail}`: the form of every HTTP error."""
    response = json_response({"error": code, "detail": detail}, status)
    response.headers.update(headers or {})
    return response


@frozen(slots=False)
class RequestRefused(IronWireError):
    """The request gets this answer, and nothing of it is kept."""

    status: int
    code: HttpErrorCode
    detail: str
    headers: dict[str, str] = field(factory=dict)

    def __str__(self) -> str:
        return self.detail

    def response(self) -> Response:
        return error_response(self.status, self.code, self.detail, self.headers)


def sealed_response(body: bytes) -> Response:
    """Bytes that only devices understand, for whoever knows their name. No cache keeps them."""
    headers = {
        "Content-Disposition": "attachment",
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "no-store",
    }
    return Response(body, content_type="application/octet-stream", headers=headers)


def install_response_rules(app: Quart) -> None:
    """Give errors of Quart's own (404, 405, 500, ...) the form of all others, and every response the headers in
    `SECURITY_HEADERS`.
    """

    @app.errorhandler(HTTPException)
    async def describe(error: HTTPException) -> Response:
        status = error.code or 500
        response = Response(error_body(status), status=status, content_type=JSON_TYPE)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.after_request
    async def add_security_headers(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response


def install_cors(routes: Blueprint, web_origins: Collection[str]) -> None:
    """Let the pages of these sites send requests to `routes` and read every answer, errors too (Fetch, section 3.3).

    A page of another site gets no such header, so the browser keeps the answer from it. Credentials are not allowed:
    the server uses no cookies, and a token is a header that the page sets itself.
    """

    @routes.after_request
    async def allow(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None or origin not in web_origins:
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = response.headers["Allow"]
            response.headers["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
            response.headers["Access-Control-Max-Age"] = str(_CORS_SECONDS)
        else:
            response.headers["Access-Control-Expose-Headers"] = _CORS_RESPONSE_HEADERS
        return response
