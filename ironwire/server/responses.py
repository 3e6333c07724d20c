"""What every HTTP response has in common: JSON for errors, and the two headers of docs/protocol.md, section 8.

Handlers are async throughout, whether or not they wait: Quart calls a plain function in a thread.
"""

from collections.abc import Mapping
from typing import Literal

import orjson
from quart import Quart, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

HttpErrorCode = Literal[
    "invalid",
    "unauthorized",
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

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""No response is sniffed for another type, and no link followed from one says where it was."""

_QUART_ERRORS: dict[int, tuple[HttpErrorCode, str]] = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method; Allow names those that it takes"),
    500: ("internal", "something went wrong in the server, and is in its log"),
}


def json_response(body: object, status: int = 200) -> Response:
    """`body` as compact JSON, its keys in the order given."""
    return Response(orjson.dumps(body), status=status, content_type="application/json")


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
        code, detail = _QUART_ERRORS.get(status, ("invalid" if status < 500 else "internal", error.name))
        response = error_response(status, code, detail)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def install_security_headers(app: Quart) -> None:
    """Give every response of the app the headers in `SECURITY_HEADERS`."""

    @app.after_request
    async def add(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response
