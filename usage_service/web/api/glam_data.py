"""POST /api/v1/data/ and /api/v1/labels/: a probe's aggregates and labels, as GLAM's own app asks for them.

Each request for data is recorded as a view.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog
from aiohttp import web

from usage_service.builds.requests import MissLimits, request_missed_build, seconds_left
from usage_service.glam.data import (
    LEGACY,
    DataQuery,
    UnusableQueryError,
    data_rows,
    find_labels,
    read_labels_query,
    read_query,
)
from usage_service.ingest.appending import Record
from usage_service.ingest.group_commit import Answer, LogUnavailableError, QueueFullError
from usage_service.ingest.parsing import Envelope
from usage_service.problems import Problem
from usage_service.web.access import source_of
from usage_service.web.answers import as_json, body_answer, json_answer
from usage_service.web.api.build_answers import existing, place
from usage_service.web.bodies import json_body
from usage_service.web.gzipped import gzip_answer
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import PROBLEM, Response, described, json_of, ok, problem

RECORD_SECONDS = 0.25  # for the view to be durable; when it takes longer it is recorded after the answer
VISITOR_HEADER, VISITOR_COOKIE = "Usage-Visitor", "glam_visitor"
MOST_VISITOR_CHARACTERS = 256
NOTHING = "No documents found for the given parameters"
NOT_STARTED = {
    "unknown": "the catalogue has no such probe",
    "unbuildable": "the probe is of a type that is not aggregated",
    "excluded": "the probe is hidden, or excluded by an operator",
    "limited": "so many builds were started today; they are possible again after midnight, UTC",
}

log = structlog.get_logger(__name__)


class DataRequest(msgspec.Struct):
    """Data request of GLAM's app; other fields are ignored."""

    query: Any = None


class DataAnswer(msgspec.Struct, frozen=True):
    """Rows of a probe, as GLAM's app reads them."""

    response: list[dict[str, Any]]


@described(
    ok(DataAnswer, "Vary"),
    Response(400, "the query is not valid: with GLAM's own message, or as a problem", (json_of(list[str]), PROBLEM)),
    problem(
        404,
        "there are no such rows: `build` is being built, then ask the same again after `retry_after` seconds; "
        "else POST `request` to /v1/builds; `not_started` tells why it was not",
        "Link",
        "Retry-After",
    ),
    headers=(VISITOR_HEADER,),
    body=(json_of(DataRequest),),
)
async def post_data(request: web.Request) -> web.Response:
    """Get the rows of a probe, as GLAM's app asks for them.

    The request is recorded as a view of the probe. The answer is 400 with GLAM's own message when the query is not
    valid, and 404 when there are no rows. Where the setting is on, a build is then started or joined, and the
    header Link leads to it.
    """
    try:
        asked = read_query((await json_body(request, DataRequest)).query)
    except UnusableQueryError as error:
        return json_answer([str(error)], status=400)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        rows = await data_rows(connection, asked)
    visitor = await _record(request, asked, bool(rows))
    if not rows:
        raise await _not_found(request, asked, visitor)
    return await gzip_answer(request, body_answer(as_json(DataAnswer(rows))))


class LabelsAnswer(msgspec.Struct, frozen=True):
    """Labels of a probe, as GLAM's app reads them."""

    labels: list[str]


@described(
    ok(LabelsAnswer),
    Response(400, "the query is not valid: with GLAM's own message, or as a problem", (json_of(list[str]), PROBLEM)),
    body=(json_of(DataRequest),),
)
async def post_labels(request: web.Request) -> web.Response:
    """Get the labels of a probe, as GLAM's app asks for them before the data of a labeled probe."""
    try:
        asked = read_labels_query((await json_body(request, DataRequest)).query)
    except UnusableQueryError as error:
        return json_answer([str(error)], status=400)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        return json_answer(LabelsAnswer(await find_labels(connection, asked)))


async def _not_found(request: web.Request, asked: DataQuery, visitor: UUID | None) -> Problem:
    """Return the 404 of a request that found nothing, with the build that it started or joined, if it did."""
    if asked.product == LEGACY:
        return Problem(404, "Not found", NOTHING)
    wanted = {"product": asked.product, "channel": asked.channel, "probe": asked.probe}
    to_request = {"Link": '</v1/builds>; rel="create-form"'}
    if not service_of(request).settings.build_misses:
        return Problem(404, "Not found", NOTHING, headers=to_request, request=wanted)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        requested = await request_missed_build(
            connection, **wanted, visitor=visitor, limits=_limits(request), source=source_of(request)
        )
        if requested.build_id is None:
            why = NOT_STARTED[requested.outcome]
            return Problem(404, "Not found", NOTHING, headers=to_request, request=wanted, not_started=why)
        build = await existing(connection, requested.build_id)
        seconds = await seconds_left(connection, build) if build.pending else None
    headers = {"Link": f'<{place(build)}>; rel="monitor"'} | ({"Retry-After": str(seconds)} if seconds else {})
    told: dict[str, Any] = {"build": place(build), "state": build.state, "retry_after": seconds}
    return Problem(404, "Not found", NOTHING, headers=headers, request=wanted, **told)


def _limits(request: web.Request) -> MissLimits:
    settings = service_of(request).settings
    return MissLimits(settings.miss_builds_a_day, settings.miss_bytes_a_day)


async def _record(request: web.Request, asked: DataQuery, found: bool) -> UUID | None:
    """Record the view, wait for it RECORD_SECONDS at most, and return the keyed hash of its visitor.

    The request is answered even when this fails.
    """
    service = service_of(request)
    envelope = Envelope([msgspec.Raw(msgspec.json.encode(_view(request, asked, found)))])
    read = service.reader.read(envelope, source_of(request), datetime.now(UTC))
    records = [record for record in read if isinstance(record, Record)]
    visitor = next((record.visitor.lookup for record in records if record.visitor), None)
    try:
        recorded = service.ingest.enqueue(records)
    except (QueueFullError, LogUnavailableError) as error:
        log.warning("view_not_recorded", error=repr(error))
        return visitor
    recorded.add_done_callback(_log_failure)
    await asyncio.wait([recorded], timeout=RECORD_SECONDS)
    return visitor


def _log_failure(recorded: asyncio.Future[list[Answer]]) -> None:
    if not recorded.cancelled() and (error := recorded.exception()):
        log.warning("view_not_recorded", error=repr(error))


def _view(request: web.Request, asked: DataQuery, found: bool) -> dict[str, object]:
    visitor = request.headers.get(VISITOR_HEADER) or request.cookies.get(VISITOR_COOKIE)
    return {
        "type": "probe_viewed",
        "event_id": uuid4(),
        "occurred_at": datetime.now(UTC),
        "visitor": visitor[:MOST_VISITOR_CHARACTERS] if visitor else None,
        "product": asked.product,
        "channel": asked.channel,
        "probe": asked.probe,
        "data": {
            "found": found,
            "ping_type": asked.ping_type,
            "os": asked.os,
            "aggregation_level": asked.aggregation_level,
        },
    }
