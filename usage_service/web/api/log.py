"""GET /v1/events: the events of the log from a position on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.log.arrow import stream_batches
from usage_service.log.batches import lines_of
from usage_service.log.following import wait_for_growth
from usage_service.log.mirrored import MirrorPlace, MirrorSource, read_events
from usage_service.log.reading import LogFilter, log_begin, log_end, read_lines, was_dropped
from usage_service.log.stored_events import LARGEST_POSITION, StoredEvent
from usage_service.problems import FieldError, Problem, invalid
from usage_service.queries import query
from usage_service.service import Service
from usage_service.shared.patterns import worded
from usage_service.shared.threads import each, in_turn
from usage_service.web.access import source_of
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import NDJSON, Content, Response, described, problem
from usage_service.web.parameters import query_parameters
from usage_service.web.streaming import stream_answer
from usage_service.windows import Time

ARROW = "application/vnd.apache.arrow.stream"
BEGIN = "Log-Begin"
LONGEST_WAIT = 300
PAUSE_SECONDS = 0.1  # a tail reads ten times a second at most, however often the log grows
ROLE = "usage_server"


class LogParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Events after a position, at most `limit` of them; `wait` seconds without a new event end the answer.

    With `partial=true` events that were dropped from the log are missing.
    """

    after: Annotated[int, Meta(ge=0, le=LARGEST_POSITION)] = 0
    limit: Annotated[int, Meta(ge=1, le=LARGEST_POSITION)] | None = None
    type: (
        Annotated[
            str,
            Meta(
                pattern=worded(
                    r"^[a-z0-9_]+(,[a-z0-9_]+)*$",
                    "types of events, separated by commas, such as probe_viewed,page_viewed",
                ),
                max_length=2_000,
            ),
        ]
        | None
    ) = None
    product: Product | None = None
    visitor: UUID | None = None
    since: Time | None = None
    until: Time | None = None
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
        "events after `after` were dropped, and no mirror has them; exported files do; `partial=true` lists the rest",
        BEGIN,
    ),
    query=LogParameters,
)
async def get_events(request: web.Request) -> web.StreamResponse:
    """List events of the log, in the order of their positions.

    The answer is NDJSON, or an Arrow IPC stream when Accept asks for it. Events that were dropped (those before
    `Log-Begin`) come from the mirror of the log. Where there is none that has them it is 410, unless `partial=true`.
    """
    asked, is_arrow = query_parameters(request, LogParameters), ARROW in request.headers.get("Accept", "")
    if is_arrow and asked.wait:
        raise invalid([FieldError(parameter="wait", detail="is for NDJSON; an Arrow stream ends at the log's end")])
    service, source = service_of(request), source_of(request)
    with ExitStack() as taken:
        if is_arrow:
            taken.enter_context(service.arrow_readings.take(source))
        if asked.wait:
            taken.enter_context(service.tails.take(source))
        begin = await _require_whole(service, asked, asked.after)
        signal, end = service.log_growth.signal, await log_end(service.pool)
        if _reads_mirror(service, asked, begin):
            taken.enter_context(service.mirror_readings.take(source))
        pieces = _arrow(service, asked, end) if is_arrow else _lines(service, asked, signal, begin, end)
        headers = {BEGIN: str(begin)}
        return await stream_answer(request, ARROW if is_arrow else NDJSON, end, pieces, headers=headers)


async def _require_whole(service: Service, asked: LogParameters, after: int) -> int:
    """Return the position at which the log begins; raise a Problem (410) when nothing has the events after `after`."""
    begin = await log_begin(service.pool)
    if after + 1 < begin and not asked.partial and not await _is_mirrored(service, after):
        wrong = [FieldError(parameter="after", detail=f"is before {begin - 1}")]
        raise Problem(410, "Events were dropped", was_dropped(begin), wrong, headers={BEGIN: str(begin)}, begin=begin)
    return begin


def _reads_mirror(service: Service, asked: LogParameters, begin: int) -> bool:
    return service.settings.mirror is not None and not asked.partial and asked.after + 1 < begin


async def _is_mirrored(service: Service, after: int) -> bool:
    """Return whether the mirror has what was dropped after a position."""
    if service.settings.mirror is None:
        return False
    async with service.pool.acquire(timeout=5) as connection:
        begins_after = await connection.fetchval(query("mirror", "begins_after"), service.settings.mirror)
    return begins_after is not None and begins_after <= after


async def _arrow(service: Service, asked: LogParameters, end: int) -> AsyncGenerator[bytes, None]:
    url = service.settings.database_url
    mirror = None if asked.partial else MirrorPlace.of(service.settings)
    batches = read_events(url, ROLE, mirror, asked.after, end, asked.filter(), asked.limit)
    async with aclosing(stream_batches(batches)) as pieces:
        async for piece in pieces:
            yield piece
    await _require_whole(service, asked, asked.after)


async def _lines(
    service: Service, asked: LogParameters, signal: asyncio.Event, begin: int, end: int
) -> AsyncGenerator[bytes, None]:
    """Yield lines of events up to the end of the log; with `wait` also new events, until none came for so long."""
    after, left, deadline = asked.after, asked.limit, time.monotonic() + asked.wait
    async with aclosing(_mirrored_lines(service, asked, begin, end)) as mirrored:
        async for lines, number in mirrored:
            yield lines
            left = None if left is None else left - number
    if _reads_mirror(service, asked, begin):
        after = min(begin - 1, end)
    while left != 0:
        async for lines, number in read_lines(service.pool, after, end, asked.filter(), left):
            yield lines
            left = None if left is None else left - number
            deadline = time.monotonic() + asked.wait
        if after < end:  # raises when events were dropped meanwhile
            await _require_whole(service, asked, after)
        after = max(after, end)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        await asyncio.sleep(PAUSE_SECONDS)
        await wait_for_growth(signal, remaining)
        signal, end = service.log_growth.signal, await log_end(service.pool)


async def _mirrored_lines(
    service: Service, asked: LogParameters, begin: int, end: int
) -> AsyncGenerator[tuple[bytes, int], None]:
    """Yield lines of the events that were dropped from the log, with their number, from the mirror."""
    place = MirrorPlace.of(service.settings)
    if place is None or not _reads_mirror(service, asked, begin):
        return
    source = MirrorSource(place, service.settings.database_url, ROLE)
    batches = source.batches(asked.after, min(begin - 1, end), asked.filter(), asked.limit)
    written = each(lambda batch: (lines_of(batch), batch.num_rows), batches)
    async with aclosing(in_turn(written, "mirrored log")) as made:
        async for one in made:
            yield one
