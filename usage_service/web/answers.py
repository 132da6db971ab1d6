"""Answers as JSON, and what is wrong as application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from aiohttp import web

from usage_service.problems import Problem


class Body(NamedTuple):
    """The bytes of an answer."""

    data: bytes
    content_type: str


def as_json(value: object) -> Body:
    """Anything that msgspec can encode."""
    return Body(msgspec.json.encode(value), "application/json")


def json_answer(
    body: object, *, status: int = 200, position: int | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON with, when given, the log position that the answer is as fresh as."""
    sent = dict(headers or {})
    if position is not None:
        sent["Log-Position"] = str(position)
    return body_answer(as_json(body), status=status, headers=sent)


def body_answer(body: Body, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The bytes as they are."""
    return web.Response(body=body.data, status=status, headers=headers, content_type=body.content_type, charset="utf-8")


def problem_answer(problem: Problem) -> web.Response:
    """The problem as RFC 9457 has it."""
    return web.Response(
        body=msgspec.json.encode(problem.body),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )
