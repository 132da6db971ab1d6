"""Declarations of operations at their handlers, from which the reference of the API is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from usage_service.problems import ProblemDetails
from usage_service.web.access import Scope
from usage_service.web.errors import Handler
from usage_service.web.tables import Table, table_of
from usage_service.web.tabular import CSV, tabular

JSON, NDJSON, PROBLEM_JSON = "application/json", "application/x-ndjson", "application/problem+json"
TAGGED = ("ETag", "Log-Position", "Cache-Control", "Vary")  # headers of an answer with an entity tag


class Content(NamedTuple):
    """Media type and the type of its content, which msgspec describes; a tuple is a choice of several types."""

    media_type: str
    kind: object


PROBLEM = Content(PROBLEM_JSON, ProblemDetails)


class Response(NamedTuple):
    """Status, when it is sent (by default the description of its content), its content and its headers."""

    status: int
    means: str = ""
    content: tuple[Content, ...] = ()
    headers: tuple[str, ...] = ()


class Operation(NamedTuple):
    """Requests and responses of a route, besides those that `responses` adds to all routes of a kind.

    `table` is what the answer is as CSV.
    """

    responses: tuple[Response, ...]
    query: type[msgspec.Struct] | None = None
    path: type[msgspec.Struct] | None = None
    headers: tuple[str, ...] = ()
    body: tuple[Content, ...] = ()
    body_required: bool = True
    table: Table | None = None


class Route(NamedTuple):
    """Method, path, scope and handler of a route."""

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
    table: Table | str | None = None,
) -> Callable[[Handler], Handler]:
    """Declare the requests and responses of a handler; `table` may be the path of the list in its answer."""
    found = _table_in(responses, table) if isinstance(table, str) else table
    if found:
        responses = tuple(map(_with_csv, responses))

    def declare(handler: Handler) -> Handler:
        _operations[handler] = Operation(responses, query, path, headers, body, body_required, found)
        return handler

    return declare


def _table_in(responses: tuple[Response, ...], path: str) -> Table:
    [kind] = (one.kind for response in responses if response.status == 200 for one in response.content)
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        raise TypeError(f"{kind} is no struct, so it has no list {path}")
    return table_of(kind, path)


def _with_csv(response: Response) -> Response:
    return response._replace(content=(*response.content, Content(CSV, str))) if response.status == 200 else response


def operation_of(handler: Handler) -> Operation | None:
    """Return the operation declared at a handler; None when it has none."""
    return _operations.get(handler)


def in_its_forms(handler: Handler) -> Handler:
    """Return the handler, which answers as CSV on request if it was declared with a table."""
    operation = operation_of(handler)
    return tabular(handler, operation.table, operation.query) if operation and operation.table else handler


def json_of(kind: object) -> Content:
    """Return JSON content of a type."""
    return Content(JSON, kind)


def ok(kind: object, *headers: str, status: int = 200, means: str = "") -> Response:
    """Return a response with JSON content."""
    return Response(status, means, (json_of(kind),), headers)


def tagged(*content: Content) -> tuple[Response, Response]:
    """Return the responses with an entity tag: 200, and 304 when the caller has this answer."""
    return Response(200, "", content, TAGGED), Response(304, "the caller has this answer already", (), TAGGED)


def listed(*content: Content) -> tuple[Response, Response]:
    """Return the responses of a list with an entity tag: `Link` leads to what follows a page."""
    return Response(200, "", content, (*TAGGED, "Link")), *tagged()[1:]


def problem(status: int, means: str, *headers: str) -> Response:
    """Return a response with a problem, sent when `means` says."""
    return Response(status, means, (PROBLEM,), headers)
