"""GET /v1/events: the events of the log from a position on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Instant, Product
from usage_service.log.arrow import read_batches, stream_batches
from usage_service.log.following import wait_for_growth
from usage_service.log.reading import LogFilter, log_begin, log_end, read_lines, was_dropped
from usage_service.log.stored_events import StoredEvent
from usage_service.problems import FieldError, Problem, invalid
from usage_service.service import Service
from usage_service.shared.postgres import Pool
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import NDJSON, Content, Response, described, problem
from usage_service.web.parameters import query_parameters
from usage_service.web.streaming import stream_answer

ARROW = "application/vnd.apache.arrow.stream"
BEGIN = "Log-Begin"
LONGEST_WAIT = 300


class LogParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Events after a position, at most `limit` of them; `wait` seconds without a new event end the answer.

    With `partial=true` events that were dropped from the log may be missing.
    """

    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    type: Annotated[str, Meta(pattern=r"^[a-z0-9_]+(,[a-z0-9_]+)*$", max_length=2_000)] | None = None
    product: Product | None = None
    visitor: UUID | None = None
    since: Instant | None = None
    until: Instant | None = None
    wait: Annotated[int, Meta(ge=0, le=LONGEST_WAIT)] = 0
    partial: bool = False

    def filter(self) -> LogFilter:
        """Return the filter of the log."""
        types = tuple(self.type.split(",")) if self.type else None
        return LogFilter(types, self.product, self.visitor, self.since, self.until)


@described(
    Response(
        200, "an event in each line", (Content(NDJSON, StoredEvent), Content(ARROW, bytes)), ("Log-Position", BEGIN)
    ),
    problem(
        410,
        "events after `after` were dropped; exported files have them; `partial=true` lists the rest",
        BEGIN,
    ),
    query=LogParameters,
)
async def get_events(request: web.Request) -> web.StreamResponse:
    """List events of the log, in the order of their positions.

    The answer is NDJSON, or an Arrow IPC stream when Accept asks for it. It is 410 when events were dropped that the
    answer would need (those before `Log-Begin`), unless `partial=true`.
    """
    asked = query_parameters(request, LogParameters)
    service = service_of(request)
    begin = await _require_whole(service.pool, asked, asked.after)
    signal, end = service.log_growth.signal, await log_end(service.pool)
    headers = {BEGIN: str(begin)}
    if ARROW in request.headers.get("Accept", ""):
        if asked.wait:
            raise invalid([FieldError(parameter="wait", detail="is for NDJSON; an Arrow stream ends at the log's end")])
        return await stream_answer(request, ARROW, end, _arrow(service, asked, end), headers=headers)
    return await stream_answer(request, NDJSON, end, _lines(service, asked, signal, end), headers=headers)


async def _require_whole(pool: Pool, asked: LogParameters, after: int) -> int:
    """Return the position at which the log begins; raise a Problem (410) when events after a position were dropped."""
    begin = await log_begin(pool)
    if after + 1 < begin and not asked.partial:
        wrong = [FieldError(parameter="after", detail=f"is before {begin - 1}")]
        raise Problem(410, "Events were dropped", was_dropped(begin), wrong, headers={BEGIN: str(begin)}, begin=begin)
    return begin


async def _arrow(service: Service, asked: LogParameters, end: int) -> AsyncIterator[bytes]:
    url = service.settings.database_url
    batches = read_batches(url, "usage_server", asked.after, end, asked.filter(), asked.limit)
    async for piece in stream_batches(batches):
        yield piece
    await _require_whole(service.pool, asked, asked.after)


async def _lines(service: Service, asked: LogParameters, signal: asyncio.Event, end: int) -> AsyncIterator[bytes]:
    """Yield lines of events up to the end of the log; with `wait` also new events, until none came for so long."""
    after, left, deadline = asked.after, asked.limit, time.monotonic() + asked.wait
    while left != 0:
        async for lines, number in read_lines(service.pool, after, end, asked.filter(), left):
            yield lines
            left = None if left is None else left - number
            deadline = time.monotonic() + asked.wait
        if after < end:  # raises when events were dropped meanwhile
            await _require_whole(service.pool, asked, after)
        after = max(after, end)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        await wait_for_growth(signal, remaining)
        signal, end = service.log_growth.signal, await log_end(service.pool)
