"""POST /v1/builds and GET /v1/builds/{id}: asynchronous request-reply."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

import msgspec
from aiohttp import web

from usage_service.builds import Build, Requested, find_build, near_names, request_build, seconds_left
from usage_service.events import Channel, ProbeName, Product
from usage_service.problems import FieldError, Problem
from usage_service.shared.postgres import Connection
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.parameters import json_body


class BuildRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The probe whose aggregates are wanted."""

    product: Product
    channel: Channel
    probe: ProbeName


async def post_build(request: web.Request) -> web.Response:
    """202 with a place to look, 303 to the result when it was built today, 404 or 422 when it cannot be built."""
    asked = await json_body(request, BuildRequest)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        requested = await request_build(connection, asked.product, asked.channel, asked.probe, "app")
        if requested.build_id is None:
            raise await _refusal(connection, asked, requested)
        build = await _existing(connection, requested.build_id)
        if not build.pending:
            return _see_result(build)
        return await _pending(connection, build, 202, {"Location": f"/v1/builds/{build.build_id}"})


async def get_build(request: web.Request) -> web.Response:
    """200 with its state while it is pending or when it failed; 303 to the result once there is one."""
    try:
        build_id = UUID(request.match_info["build_id"])
    except ValueError:
        raise Problem(404, "No such build", "a build's id is a UUID, as POST /v1/builds answers it") from None
    async with service_of(request).pool.acquire(timeout=5) as connection:
        build = await _existing(connection, build_id)
        if build.pending:
            return await _pending(connection, build, 200, {})
    if build.state in ("succeeded", "no_data"):
        return _see_result(build)
    return json_answer(build, position=build.log_position)


async def _existing(connection: Connection, build_id: UUID) -> Build:
    build = await find_build(connection, build_id)
    if build is None:
        raise Problem(404, "No such build", f"there is no build {build_id}; POST /v1/builds asks for one")
    return build


async def _pending(connection: Connection, build: Build, status: int, headers: dict[str, str]) -> web.Response:
    wait = await seconds_left(connection, build, datetime.now(UTC))
    return json_answer(build, status=status, position=build.log_position, headers=headers | {"Retry-After": str(wait)})


def _see_result(build: Build) -> web.Response:
    location = f"/v1/probes/{quote(build.product)}/{quote(build.probe)}?channel={quote(build.channel)}"
    return json_answer(build, status=303, position=build.log_position, headers={"Location": location})


async def _refusal(connection: Connection, asked: BuildRequest, requested: Requested) -> Problem:
    if requested.outcome != "unknown":
        kind = f"is a {requested.metric_type}, a type that is not aggregated"
        detail = f"{asked.probe} {kind if requested.outcome == 'unbuildable' else 'is left out of the aggregates'}"
        return Problem(422, "Not buildable", detail, [FieldError(detail=detail, pointer="/probe")])
    near = await near_names(connection, asked.product, asked.probe)
    detail = f"{asked.product} has no probe {asked.probe}"
    return Problem(
        404,
        "Unknown probe",
        f"{detail}; did you mean {near[0]}?" if near else detail,
        [FieldError(detail=detail, pointer="/probe")],
        near_names=near,
    )
