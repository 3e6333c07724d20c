"""What every HTTP response has in common: JSON for errors, and the two headers of docs/protocol.md, section 8.

Handlers are async throughout, whether or not they wait: Quart calls a plain function in a thread.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

import orjson
from quart import Quart, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

HttpErrorCode = Literal[
    "invalid",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "timeout",
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
"""No response is sniffed for another type, and no link followed from one says where it was."""

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


def error_body(status: int) -> bytes:
    """The body of a response with this status that no handler has written."""
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


def install_error_pages(app: Quart) -> None:
    """Give every error that Quart itself finds (404, 405, 500, ...) the same form."""

    @app.errorhandler(HTTPException)
    async def describe(error: HTTPException) -> Response:
        status = error.code or 500
        response = Response(error_body(status), status=status, content_type=JSON_TYPE)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def install_security_headers(app: Quart) -> None:
    """Give every response of the app the headers in `SECURITY_HEADERS`."""

    @app.after_request
    async def add(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response
