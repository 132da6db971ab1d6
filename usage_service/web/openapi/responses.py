"""Responses that all routes of a kind have besides their own, and the headers of requests and responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usage_service.tokens import FEED
from usage_service.web.openapi.operations import Operation, Response, Route, problem

JsonObject = dict[str, Any]
TEXT: JsonObject = {"type": "string"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}
TAG: JsonObject = {"type": "string", "pattern": '^(W/)?"[^"]*"$'}

RESPONSE_HEADERS: dict[str, tuple[str, JsonObject]] = {
    "Cache-Control": ("how long the answer may be cached", TEXT),
    "Content-Location": ("the URL of the build in the answer", TEXT),
    "ETag": ("the answer's entity tag, for If-None-Match", TAG),
    "Link": ("links to what follows (RFC 8288)", TEXT),
    "Location": ("the URL to request next", TEXT),
    "Log-Begin": ("the position from which the log has every event", COUNT),
    "Log-Position": ("the log position up to which the answer has seen every event", COUNT),
    "Preference-Applied": ("the preference that was applied (RFC 7240)", TEXT),
    "RateLimit": ("the requests that the token has left, when there is a limit", TEXT),
    "RateLimit-Policy": ("how many requests a token may make in how many seconds", TEXT),
    "Retry-After": ("the seconds after which to request again", COUNT),
    "Vary": ("the request headers that the answer depends on", TEXT),
    "WWW-Authenticate": ("the token that is needed", TEXT),
}
REQUEST_HEADERS: dict[str, tuple[str, JsonObject]] = {
    "Idempotency-Key": (
        "a text of your choice that identifies a request, so that sending it again does not repeat it",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]*$"},
    ),
    "If-None-Match": ("entity tags of answers that you have", TEXT),
    "Last-Event-ID": (
        "the position after which the stream goes on; browsers send it when they reconnect",
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
    ),
    "Prefer": ("`wait=N`: wait up to N seconds (60 at most) for the build, instead of answering at once", TEXT),
    "Usage-Visitor": ("an id of the visitor; the log keeps a pseudonym of it", {"type": "string", "maxLength": 256}),
}
# Problems that have the same meaning on every route of a kind.
GENERAL = {
    400: "the request or its body cannot be read",
    401: "a token is needed",
    403: "the token does not have this scope",
    408: "the body did not arrive in time",
    413: "the body is larger than 1 MiB, decompressed",
    417: "Expect is something other than 100-continue",
    421: "the Host header is another's name; asked only of a service on loopback without tokens",
    415: "the media type or encoding is not supported",
    422: "a parameter or field is not valid; `errors` names each",
    429: "too many requests, or too many wrong tokens from the caller's address",
    503: "the database is unavailable, or not as fresh as asked for",
}
CONDITIONAL = "If-None-Match"


def responses_of(route: Route, operation: Operation) -> dict[int, Response]:
    """Return all responses of a route by status; its own override the general ones."""
    general = {response.status: response for response in _general(route, operation)}
    own = {response.status: response for response in operation.responses}
    return dict(sorted((general | own).items()))


def takes_bearer(route: Route) -> bool:
    """Return whether a route takes its token from `Authorization`; a feed has its own in the path."""
    return route.scope not in ("open", FEED)


def request_headers(operation: Operation) -> tuple[str, ...]:
    """Return the names of the request headers that the route reads."""
    conditional = any(response.status == 304 for response in operation.responses)
    return (*operation.headers, CONDITIONAL) if conditional else operation.headers


def _general(route: Route, operation: Operation) -> Iterator[Response]:
    yield from map(_general_problem, (400, 417, 421))
    if operation.query or operation.path or operation.body:
        yield _general_problem(422)
    if operation.body:
        yield from map(_general_problem, (408, 413, 415))
    if takes_bearer(route):
        yield from (_general_problem(status, "WWW-Authenticate") for status in (401, 403))
    if route.scope != "open":
        yield _general_problem(429, "Retry-After", "RateLimit", "RateLimit-Policy")
        yield _general_problem(503, "Retry-After", "Log-Position")


def _general_problem(status: int, *headers: str) -> Response:
    return problem(status, GENERAL[status], *headers)
