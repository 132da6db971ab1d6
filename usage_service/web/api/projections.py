"""GET /v1/projections: the position and state of each projection."""

from __future__ import annotations

import msgspec
from aiohttp import web

from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, ok
from usage_service.web.parameters import query_parameters


class NoParameters(msgspec.Struct, forbid_unknown_fields=True):
    """No query parameters."""


class ProjectionsAnswer(msgspec.Struct, frozen=True):
    """Status of each projection."""

    projections: list[Status]


@described(ok(ProjectionsAnswer, "Log-Position", "Cache-Control"), query=NoParameters, table="projections")
async def get_projections(request: web.Request) -> web.Response:
    """List the projections: how far each is behind the log, and the events that it could not fold.

    `Log-Position` is the end of the log.
    """
    query_parameters(request, NoParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        end = await connection.fetchval(query("log", "end"))
        statuses = await projection_statuses(connection)
    return json_answer(ProjectionsAnswer(statuses), position=end, headers={"Cache-Control": "no-cache"})
