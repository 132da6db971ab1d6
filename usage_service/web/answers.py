"""Responses: JSON, and problems as application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import web

from usage_service.problems import Problem


class Body(NamedTuple):
    """Bytes of an answer and their media type; `following` is the link to what follows a page of a list."""

    data: bytes
    content_type: str
    following: str | None = None


def as_json(value: object, following: str | None = None) -> Body:
    """Return any value that msgspec can encode, as JSON."""
    return Body(msgspec.json.encode(value), "application/json", following)


def json_answer(
    body: object, *, status: int = 200, position: int | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response in JSON; `position` is the log position that it has seen, for Log-Position."""
    sent = dict(headers or {})
    if position is not None:
        sent["Log-Position"] = str(position)
    return body_answer(as_json(body), status=status, headers=sent)


def body_answer(body: Body, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with the body as it is."""
    return web.Response(body=body.data, status=status, headers=headers, content_type=body.content_type, charset="utf-8")


def problem_answer(problem: Problem) -> web.Response:
    """Return a response with the problem in the format of RFC 9457."""
    try:
        body = msgspec.json.encode(problem.body)
    except UnicodeEncodeError:  # it repeats bytes of the request that are not UTF-8
        body = msgspec.json.encode(_readable(problem.body))
    return web.Response(
        body=body,
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def _readable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return {name: _readable(one) for name, one in value.items()} if isinstance(value, dict) else value
