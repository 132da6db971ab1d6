"""What every route of a kind answers besides its own, and the headers that are sent and taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usage_service.web.openapi.operations import Operation, Response, Route, problem

JsonObject = dict[str, Any]
TEXT: JsonObject = {"type": "string"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}
TAG: JsonObject = {"type": "string", "pattern": '^(W/)?"[^"]*"$'}

RESPONSE_HEADERS: dict[str, tuple[str, JsonObject]] = {
    "Cache-Control": ("how long the answer may be kept without asking again", TEXT),
    "Content-Location": ("where the build that is answered is found", TEXT),
    "ETag": ("the answer's tag, for If-None-Match", TAG),
    "Link": ("where to go on from here (RFC 8288)", TEXT),
    "Location": ("where to look next", TEXT),
    "Log-Begin": ("from which position on the log holds every event", COUNT),
    "Log-Position": ("up to where in the log the answer has seen every event", COUNT),
    "Preference-Applied": ("which preference was taken into account (RFC 7240)", TEXT),
    "RateLimit": ("what is left to the token, where requests are counted", TEXT),
    "RateLimit-Policy": ("how many requests a token may make in how many seconds", TEXT),
    "Retry-After": ("in how many seconds to ask again", COUNT),
    "Vary": ("which headers of the request the answer depends on", TEXT),
    "WWW-Authenticate": ("which token is needed", TEXT),
}
REQUEST_HEADERS: dict[str, tuple[str, JsonObject]] = {
    "Idempotency-Key": (
        "a text of your own by which a request that is sent again is known",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]*$"},
    ),
    "If-None-Match": ("tags of answers that you have", TEXT),
    "Last-Event-ID": (
        "the position after which the stream goes on; browsers send it when they come back",
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
    ),
    "Prefer": ("`wait=N`: answer within N seconds (60 at most), rather than at once", TEXT),
    "Usage-Visitor": ("who looks; the log holds a pseudonym of it", {"type": "string", "maxLength": 256}),
}
# What is wrong in the same words on every route of a kind.
GENERAL = {
    400: "the request or its body cannot be read",
    401: "a token is needed",
    403: "the token is not of this scope",
    408: "the body did not arrive in time",
    413: "the body is larger than 1 MiB, unpacked",
    415: "the media type or encoding is not taken",
    422: "a parameter or field is not what it has to be; `errors` names each",
    429: "too many requests at once",
    503: "the database is away, or not as fresh as asked for",
}
CONDITIONAL = "If-None-Match"


def responses_of(route: Route, operation: Operation) -> dict[int, Response]:
    """All that a route answers; its own words go before the general ones."""
    general = {response.status: response for response in _general(route, operation)}
    own = {response.status: response for response in operation.responses}
    return dict(sorted((general | own).items()))


def request_headers(operation: Operation) -> tuple[str, ...]:
    """Those that the route looks at."""
    conditional = any(response.status == 304 for response in operation.responses)
    return (*operation.headers, CONDITIONAL) if conditional else operation.headers


def _general(route: Route, operation: Operation) -> Iterator[Response]:
    yield _said(400)
    if operation.query or operation.path or operation.body:
        yield _said(422)
    if operation.body:
        yield from map(_said, (408, 413, 415))
    if route.scope != "open":
        yield from (_said(status, "WWW-Authenticate") for status in (401, 403))
        yield _said(429, "Retry-After", "RateLimit", "RateLimit-Policy")
        yield _said(503, "Retry-After", "Log-Position")


def _said(status: int, *headers: str) -> Response:
    return problem(status, GENERAL[status], *headers)
