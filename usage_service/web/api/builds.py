"""GET and DELETE /v1/builds/{id}: read a build, or cancel it. GET /v1/builds: list builds."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds.listing import BuildCursor, BuildFilter, read_page
from usage_service.builds.requests import Build, State, cancel_build
from usage_service.cursors import CursorText
from usage_service.events import Channel, ProbeName, Product
from usage_service.problems import Problem
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.build_answers import (
    BuildPath,
    build_answer,
    build_answer_if_changed,
    build_id_of,
    existing,
    has_it,
    no_such_build,
    waited,
)
from usage_service.web.api.projections import NoParameters
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import TAGGED, Response, described, ok, problem
from usage_service.web.parameters import cursor_of, query_parameters


class ListParameters(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Filters of builds; `cursor` is from the `next` link of an earlier answer, and the list goes on from there."""

    state: State | None = None
    product: Product | None = None
    channel: Channel | None = None
    probe: ProbeName | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50
    cursor: CursorText | None = None


class BuildsAnswer(msgspec.Struct, frozen=True):
    """Builds, newest first; `next` is the link to the builds that follow."""

    builds: list[Build]
    next: str | None


@described(
    ok(Build, *TAGGED, "Retry-After", "Preference-Applied", means="the build is pending, failed or was cancelled"),
    ok(Build, "Location", "Log-Position", "Preference-Applied", status=303, means="the result is at Location"),
    Response(304, "the caller has this version of the build", (), (*TAGGED, "Retry-After", "Preference-Applied")),
    problem(404, "there is no such build"),
    query=NoParameters,
    path=BuildPath,
    headers=("Prefer",),
)
async def get_build(request: web.Request) -> web.Response:
    """Get a build.

    The answer is 200 with the build while it is pending, or when it failed or was cancelled; 304 when the caller has
    this version; and 303 to the result when there is one.

    With `Prefer: wait=N` the answer waits until the build is over or, with If-None-Match, until it has changed.
    """
    build_id = build_id_of(request)
    query_parameters(request, NoParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        build = await existing(connection, build_id)
    conditional = "If-None-Match" in request.headers
    build, headers = await waited(
        request, build, lambda later: not later.pending or (conditional and not has_it(request, later))
    )
    return await build_answer_if_changed(request, build, headers)


@described(
    ok(Build, *TAGGED, status=202, means="the build is cancelled"),
    problem(404, "there is no such build"),
    problem(409, "the build was over"),
    path=BuildPath,
)
async def delete_build(request: web.Request) -> web.Response:
    """Cancel a build that is not over."""
    build_id = build_id_of(request)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        before = await cancel_build(connection, build_id, source_of(request))
        if before is None:
            raise no_such_build(build_id)
        if before not in ("queued", "running"):
            raise Problem(409, "Build is over", f"the build is {before}; only a pending one is cancelled", state=before)
        build = await existing(connection, build_id)
    answer = await build_answer(request, build, {})
    answer.set_status(202)
    return answer


@described(ok(BuildsAnswer, "Log-Position", "Cache-Control", "Link"), query=ListParameters, table="builds")
async def get_builds(request: web.Request) -> web.Response:
    """List builds, newest first.

    Following `next` lists each build once, even when builds are requested meanwhile.
    """
    asked = query_parameters(request, ListParameters)
    only = msgspec.convert(asked, BuildFilter, from_attributes=True)
    listing = await read_page(service_of(request).pool, only, asked.limit, cursor_of(asked.cursor, BuildCursor))
    following, headers = None, {"Cache-Control": "no-cache"}
    if listing.following:
        asked.cursor = str(listing.following)
        following = f"/v1/builds?{urlencode(msgspec.to_builtins(asked))}"
        headers["Link"] = f'<{following}>; rel="next"'
    return json_answer(BuildsAnswer(listing.builds, following), position=listing.log_end, headers=headers)
