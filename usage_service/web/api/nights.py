"""GET /v1/nights: nights, newest first. GET and DELETE /v1/nights/{id}: one of them, and its probes."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds.nights import (
    Night,
    NightCursor,
    NightFilter,
    NightProbe,
    NightState,
    NightWithJobs,
    Outcome,
    cancel_night,
    find_night,
    night_probes,
    read_nights,
)
from usage_service.cursors import Cursor, CursorText
from usage_service.events import Channel, Product
from usage_service.problems import Problem
from usage_service.queries import query
from usage_service.shared.postgres import Connection, at_one_instant
from usage_service.web.access import needs_token, source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.build_answers import waited_for
from usage_service.web.api.projections import NoParameters
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Response, described, ok, problem
from usage_service.web.parameters import cursor_of, query_parameters

RETRY_SECONDS = 5
OF_A_NIGHT = ("ETag", "Cache-Control", "Vary", "Retry-After")


class NightPath(msgspec.Struct):
    """Night that the path names."""

    night_id: UUID


class NightsParameters(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Filters of nights; `cursor` is from the `next` link of an earlier answer, and the list goes on from there."""

    state: NightState | None = None
    product: Product | None = None
    channel: Channel | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: CursorText | None = None


class NightsAnswer(msgspec.Struct, frozen=True):
    """Nights, newest first; `next` is the link to the nights that follow."""

    nights: list[Night]
    next: str | None


class PlaceCursor(Cursor, frozen=True):
    """Cursor at the last probe of a page: its place in the night's list."""

    place: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class NightProbesParameters(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Filter of a night's probes; `cursor` is from the `next` link of an earlier answer."""

    outcome: Outcome | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: CursorText | None = None


class NightProbesAnswer(msgspec.Struct, frozen=True):
    """Probes of a night in the order of its list; `next` is the link to those that follow."""

    probes: list[NightProbe]
    next: str | None


@described(ok(NightsAnswer, "Log-Position", "Cache-Control", "Link"), query=NightsParameters, table="nights")
async def get_nights(request: web.Request) -> web.Response:
    """List nights, newest first. Following `next` lists each night once, even when nights are requested meanwhile."""
    asked = query_parameters(request, NightsParameters)
    only = msgspec.convert(asked, NightFilter, from_attributes=True)
    page = await read_nights(service_of(request).pool, only, asked.limit, cursor_of(asked.cursor, NightCursor))
    following, headers = _following("/v1/nights", asked, page.following)
    return json_answer(NightsAnswer(page.nights, following), position=page.log_end, headers=headers)


@described(
    ok(NightWithJobs, *OF_A_NIGHT, "Preference-Applied"),
    Response(304, "the caller has this version of the night", (), (*OF_A_NIGHT, "Preference-Applied")),
    problem(404, "there is no such night"),
    query=NoParameters,
    path=NightPath,
    headers=("Prefer",),
)
async def get_night(request: web.Request) -> web.Response:
    """Get a night with its jobs. The answer is 304 when the caller has this version.

    With `Prefer: wait=N` the answer waits until the night is over or, with If-None-Match, until it has changed.
    """
    night_id = night_id_of(request)
    query_parameters(request, NoParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        night = await existing_night(connection, night_id)
    conditional = "If-None-Match" in request.headers
    night, headers = await waited_for(
        request,
        service_of(request).night_watch,
        night_id,
        night,
        lambda later: later.over or (conditional and not _has_it(request, later)),
    )
    headers |= _headers(request, night)
    if _has_it(request, night):
        return web.Response(status=304, headers=headers)
    return json_answer(night, headers=headers)


@described(
    ok(NightWithJobs, *OF_A_NIGHT, status=202, means="the night is cancelled"),
    problem(404, "there is no such night"),
    problem(409, "the night was over"),
    path=NightPath,
)
async def delete_night(request: web.Request) -> web.Response:
    """Cancel a night that is not over, with its builds that nobody waits for. What was built stays."""
    night_id = night_id_of(request)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        before = await cancel_night(connection, night_id, source_of(request))
        night = await existing_night(connection, night_id)
    if before == "over":
        raise Problem(409, "Night is over", "only a night that is under way is cancelled", state=before)
    return json_answer(night, status=202, headers=_headers(request, night))


@described(
    ok(NightProbesAnswer, "Log-Position", "Cache-Control", "Link"),
    problem(404, "there is no such night"),
    query=NightProbesParameters,
    path=NightPath,
    table="probes",
)
async def get_night_probes(request: web.Request) -> web.Response:
    """List the probes of a night: what became of each, what it reads, and why it was not built."""
    night_id = night_id_of(request)
    asked = query_parameters(request, NightProbesParameters)
    after = cursor_of(asked.cursor, PlaceCursor)
    async with at_one_instant(service_of(request).pool) as connection:
        log_end = await connection.fetchval(query("log", "end"))
        await existing_night(connection, night_id)
        place = after.place if after else 0
        probes = await night_probes(connection, night_id, asked.outcome, place, asked.limit + 1)
    shown = probes[: asked.limit]
    cursor = PlaceCursor(shown[-1].place) if len(probes) > asked.limit else None
    following, headers = _following(f"/v1/nights/{night_id}/probes", asked, cursor)
    return json_answer(NightProbesAnswer(shown, following), position=log_end, headers=headers)


def night_id_of(request: web.Request) -> UUID:
    """Return the id of the night in the path; raise a Problem (404) when it is not a UUID."""
    try:
        return UUID(request.match_info["night_id"])
    except ValueError:
        detail = "a night's id is a UUID, as POST /v1/builds/prefetch answers it"
        raise Problem(404, "No such night", detail) from None


async def existing_night(connection: Connection, night_id: UUID) -> NightWithJobs:
    """Return the night; raise a Problem (404) when there is none."""
    night = await find_night(connection, night_id)
    if night is None:
        raise Problem(404, "No such night", f"there is no night {night_id}; POST /v1/builds/prefetch asks for one")
    return night


def _tag(night: NightWithJobs) -> str:
    return entity_tag("night", msgspec.structs.replace(night, seconds_left=None))


def _has_it(request: web.Request, night: NightWithJobs) -> bool:
    return is_matched(request.headers.getall("If-None-Match", ()), _tag(night))


def _headers(request: web.Request, night: NightWithJobs) -> dict[str, str]:
    headers = {"ETag": _tag(night), "Cache-Control": "no-cache"}
    if needs_token(request, "read"):
        headers["Vary"] = "Authorization"
    return headers | ({} if night.over else {"Retry-After": str(RETRY_SECONDS)})


def _following(
    path: str, asked: NightsParameters | NightProbesParameters, cursor: Cursor | None
) -> tuple[str | None, dict[str, str]]:
    """Return the link to what follows a page, if something does, and the headers of the page."""
    if cursor is None:
        return None, {"Cache-Control": "no-cache"}
    asked.cursor = str(cursor)
    link = f"{path}?{urlencode(msgspec.to_builtins(asked))}"
    return link, {"Cache-Control": "no-cache", "Link": f'<{link}>; rel="next"'}
