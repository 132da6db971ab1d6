"""POST /v1/hotlist: make and keep the hot list of a run of the ETL; GET /v1/hotlist/{run}: read it again, unchanged."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Instant, Product
from usage_service.hotlist.budgets import NothingKnownError
from usage_service.hotlist.listing import HotList, read_for_list
from usage_service.hotlist.runs import Asked, Run, find_run, keep_list
from usage_service.problems import FieldError, Problem, invalid
from usage_service.projections.state import snapshot
from usage_service.shared.patterns import worded
from usage_service.web.access import needs_token
from usage_service.web.answers import Body, as_json, body_answer
from usage_service.web.api.hotlist import (
    HISTORIES,
    HOT_TABLE,
    READS,
    Budget,
    Coverage,
    Format,
    formats_of,
    list_body,
    no_costs,
    wanted_of,
)
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.bodies import json_body
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.gzipped import gzip_answer
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import TAGGED, described, json_of, ok, problem, tagged
from usage_service.web.parameters import parameters_from, query_parameters

TAKEN = frozenset({"backtest", "built", "experiment", "rules"})  # other routes under /v1/hotlist/

PATTERN = worded(
    r"^[A-Za-z0-9][A-Za-z0-9_.:+@~-]{0,199}(?!\n)$",
    "letters, digits and _ . : + @ ~ - after a letter or digit, 200 at most, such as scheduled__2026-11-24T03:00",
)
RunName = Annotated[str, Meta(pattern=PATTERN, description="such as scheduled__2026-11-24T03:00")]


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Name of the run, and the parameters of its list."""

    run: RunName
    product: Product | None = None
    budget: Budget | None = None
    coverage: Coverage | None = None
    until: Instant | None = None


class RunPath(msgspec.Struct):
    """Run that the path names."""

    run: RunName


class RunParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Format of the list."""

    format: Format = "json"


class RunList(HotList, frozen=True, kw_only=True):
    """Hot list of a run, when it was made, and the log position that it had seen."""

    run: str
    made_at: datetime
    log_position: int


@described(
    ok(RunList, "Location", *TAGGED, status=201),
    ok(RunList, "Location", *TAGGED, means="the list that the run has already"),
    problem(409, "the run has a list already, made with other parameters"),
    body=(json_of(RunRequest),),
)
async def post_hotlist(request: web.Request) -> web.Response:
    """Make the hot list of a run of the ETL, and keep it under the run's name.

    The answer is 201 with the new list, 200 with the list that the run has already, and 409 when that was made with
    other parameters.
    """
    body = await json_body(request, RunRequest)
    if body.run in TAKEN:
        detail = f"{body.run} is no name for a run: something else is at /v1/hotlist/{body.run}"
        raise invalid([FieldError(pointer="/run", detail=detail)])
    asked = Asked(body.product, body.budget, body.coverage, body.until)
    pool = service_of(request).pool
    async with pool.acquire(timeout=5) as connection:
        run = await find_run(connection, body.run)
        if run is None:
            await refuse_unknown(connection, asked.product)
    if run is None:
        wanted = wanted_of(request, asked.product, asked.budget, asked.coverage, asked.until)
        async with snapshot(pool, *READS) as seen:
            make = await read_for_list(seen.connection, request.app[HISTORIES], wanted)
        try:
            made = await asyncio.to_thread(make)
        except NothingKnownError as error:
            raise invalid([FieldError(pointer="/budget", detail=no_costs(error))]) from None
        async with pool.acquire(timeout=5) as connection:
            run = await keep_list(connection, body.run, asked, seen.states.position, made)
    if run.asked != asked:
        detail = f"{run.run} has a list already, for {msgspec.json.encode(run.asked).decode()}; take another name"
        raise Problem(409, "Another list has this name", detail, [FieldError(pointer="/run", detail=detail)])
    headers = _headers(request, run, "json") | {"Location": f"/v1/hotlist/{quote(run.run)}"}
    response = body_answer(_body(run, "json"), status=201 if run.is_new else 200, headers=headers)
    return await gzip_answer(request, response)


@described(
    *tagged(*formats_of(RunList)),
    problem(404, "no list was made for the run"),
    query=RunParameters,
    path=RunPath,
    table=HOT_TABLE,
)
async def get_run(request: web.Request) -> web.Response:
    """Get the hot list of a run of the ETL."""
    name = request.match_info["run"]
    asked = query_parameters(request, RunParameters)
    path = parameters_from({"run": name}, RunPath)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        run = await find_run(connection, path.run)
    if run is None:
        raise Problem(404, "No such run", f"no list was made for {path.run}; POST /v1/hotlist makes one")
    headers = _headers(request, run, asked.format)
    if is_matched(request.headers.getall("If-None-Match", ()), headers["ETag"]):
        return await gzip_answer(request, web.Response(status=304, headers=headers))
    return await gzip_answer(request, body_answer(_body(run, asked.format), headers=headers))


def _body(run: Run, form: Format) -> Body:
    if form != "json":
        return list_body(run.list, form)
    made = msgspec.structs.asdict(run.list)
    return as_json(RunList(**made, run=run.run, made_at=run.made_at, log_position=run.log_position))


def _headers(request: web.Request, run: Run, form: Format) -> dict[str, str]:
    tag = entity_tag("hot list of a run", run.run, run.made_at, form)
    headers = {"ETag": tag, "Log-Position": str(run.log_position), "Cache-Control": "private, max-age=86400, immutable"}
    return headers | ({"Vary": "Authorization"} if needs_token(request, "read") else {})
