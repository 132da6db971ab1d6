"""GET /v1/events: the log from a position on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.columns import read_batches, stream_batches
from usage_service.events import Instant, Product
from usage_service.problems import FieldError, invalid
from usage_service.reading import LogFilter, log_end, read_lines
from usage_service.service import Service
from usage_service.stored import StoredEvent
from usage_service.tail import wait_for_growth
from usage_service.web.keys import service_of
from usage_service.web.operations import NDJSON, Content, Response, described
from usage_service.web.parameters import query_parameters
from usage_service.web.streaming import stream_answer

ARROW = "application/vnd.apache.arrow.stream"
LONGEST_WAIT = 300


class LogParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Events after a position, up to `limit` of them; `wait` seconds without a new event end the answer."""

    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    type: Annotated[str, Meta(pattern=r"^[a-z0-9_]+(,[a-z0-9_]+)*$", max_length=2_000)] | None = None
    product: Product | None = None
    visitor: UUID | None = None
    since: Instant | None = None
    until: Instant | None = None
    wait: Annotated[int, Meta(ge=0, le=LONGEST_WAIT)] = 0

    def filter(self) -> LogFilter:
        """What the log is filtered by."""
        types = tuple(self.type.split(",")) if self.type else None
        return LogFilter(types, self.product, self.visitor, self.since, self.until)


@described(
    Response(200, "an event a line", (Content(NDJSON, StoredEvent), Content(ARROW, bytes)), ("Log-Position",)),
    query=LogParameters,
)
async def get_events(request: web.Request) -> web.StreamResponse:
    """Events in the order of their positions: NDJSON, or an Arrow IPC stream when it is accepted."""
    asked = query_parameters(request, LogParameters)
    service = service_of(request)
    signal, end = service.tail.signal, await log_end(service.pool)
    if ARROW in request.headers.get("Accept", ""):
        if asked.wait:
            raise invalid([FieldError(parameter="wait", detail="is for NDJSON; an Arrow stream ends at the log's end")])
        batches = read_batches(
            service.settings.database_url, "usage_server", asked.after, end, asked.filter(), asked.limit
        )
        return await stream_answer(request, ARROW, end, stream_batches(batches))
    return await stream_answer(request, NDJSON, end, _lines(service, asked, signal, end))


async def _lines(service: Service, asked: LogParameters, signal: asyncio.Event, end: int) -> AsyncIterator[bytes]:
    """What the log holds up to its end, and with `wait` what is added until none comes for so long."""
    after, left, deadline = asked.after, asked.limit, time.monotonic() + asked.wait
    while left != 0:
        async for lines, number in read_lines(service.pool, after, end, asked.filter(), left):
            yield lines
            left = None if left is None else left - number
            deadline = time.monotonic() + asked.wait
        after = max(after, end)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return
        await wait_for_growth(signal, remaining)
        signal, end = service.tail.signal, await log_end(service.pool)
