"""What a route takes and answers, declared at its handler: the reference of the API is made from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from usage_service.problems import ProblemDetails
from usage_service.web.access import Scope
from usage_service.web.errors import Handler

JSON, NDJSON, PROBLEM_JSON = "application/json", "application/x-ndjson", "application/problem+json"
TAGGED = ("ETag", "Log-Position", "Cache-Control", "Vary")  # what is sent with an answer that can be asked for again


class Content(NamedTuple):
    """A media type, and what is in it: a type that msgspec can describe, or several of which it is one."""

    media_type: str
    kind: object


PROBLEM = Content(PROBLEM_JSON, ProblemDetails)


class Response(NamedTuple):
    """A status and when it is sent (else what the type of its content says), with which content and headers."""

    status: int
    means: str = ""
    content: tuple[Content, ...] = ()
    headers: tuple[str, ...] = ()


class Operation(NamedTuple):
    """What a route takes and answers beside what all routes of its kind do (see openapi_responses)."""

    responses: tuple[Response, ...]
    query: type[msgspec.Struct] | None = None
    path: type[msgspec.Struct] | None = None
    headers: tuple[str, ...] = ()
    body: tuple[Content, ...] = ()
    body_required: bool = True


class Route(NamedTuple):
    """A method and path, who may call it, and what answers."""

    method: str
    path: str
    scope: Scope
    handler: Handler


_operations: dict[Handler, Operation] = {}


def described(
    *responses: Response,
    query: type[msgspec.Struct] | None = None,
    path: type[msgspec.Struct] | None = None,
    headers: tuple[str, ...] = (),
    body: tuple[Content, ...] = (),
    body_required: bool = True,
) -> Callable[[Handler], Handler]:
    """Declares what a handler takes and answers."""

    def declare(handler: Handler) -> Handler:
        _operations[handler] = Operation(responses, query, path, headers, body, body_required)
        return handler

    return declare


def operation_of(handler: Handler) -> Operation | None:
    """What was declared of a handler, if anything."""
    return _operations.get(handler)


def json_of(kind: object) -> Content:
    """JSON of a type."""
    return Content(JSON, kind)


def ok(kind: object, *headers: str, status: int = 200, means: str = "") -> Response:
    """An answer in JSON."""
    return Response(status, means, (json_of(kind),), headers)


def tagged(*content: Content) -> tuple[Response, Response]:
    """200 with an entity tag, and 304 to who sends that."""
    return Response(200, "", content, TAGGED), Response(304, "the caller has this answer already", (), TAGGED)


def problem(status: int, means: str, *headers: str) -> Response:
    """What is wrong, and when that is said."""
    return Response(status, means, (PROBLEM,), headers)
