"""GET /v1/builds/{id}/statement: the SQL that read the pings of a build."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from usage_service.builds.statements import BuildStatement, find_statement
from usage_service.problems import Problem
from usage_service.web.answers import json_answer
from usage_service.web.api.build_answers import BuildPath, build_id_of, existing
from usage_service.web.api.projections import NoParameters
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, ok, problem
from usage_service.web.parameters import query_parameters


@described(
    ok(BuildStatement, "Cache-Control"),
    problem(404, "there is no such build, or its statement is not known: not begun, or a later build has its rows"),
    query=NoParameters,
    path=BuildPath,
)
async def get_statement(request: web.Request) -> web.Response:
    """Get the SQL that read the pings of a build in the warehouse, its parameters, and the bytes that it read."""
    query_parameters(request, NoParameters)
    found = await known_statement(request, build_id_of(request))
    return json_answer(found, headers={"Cache-Control": "no-cache"})


async def known_statement(request: web.Request, build_id: UUID) -> BuildStatement:
    """Return the statement of a build; raise a Problem (404) when it is not known."""
    async with service_of(request).pool.acquire(timeout=5) as connection:
        await existing(connection, build_id)
        found = await find_statement(connection, build_id)
    if found is None:
        detail = "it has not begun, a later build has its rows, or it was built before statements were noted"
        raise Problem(404, "Statement not known", detail)
    return found
