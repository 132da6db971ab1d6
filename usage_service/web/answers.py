"""Answers as JSON, and what is wrong as application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from usage_service.problems import Problem


def json_answer(
    body: object, *, status: int = 200, position: int | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON with, when given, the log position that the answer is as fresh as."""
    sent = dict(headers or {})
    if position is not None:
        sent["Log-Position"] = str(position)
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=sent,
        content_type="application/json",
        charset="utf-8",
    )


def problem_answer(problem: Problem) -> web.Response:
    """The problem as RFC 9457 has it."""
    return web.Response(
        body=msgspec.json.encode(problem.body),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )
