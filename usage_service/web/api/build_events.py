"""GET /v1/builds/{id}/events: the events of a build as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
import structlog
from aiohttp import web
from msgspec import Meta

from usage_service.builds.events import BuildEvent, Story, read_story
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.service import Service
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.web.access import source_of
from usage_service.web.api.build_answers import BuildPath, build_id_of, no_such_build
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Content, Response, described, problem
from usage_service.web.parameters import query_parameters
from usage_service.web.preferences import last_event_id
from usage_service.web.streaming import send

HEARTBEAT_SECONDS = 15.0  # proxies end connections that are silent for longer
READ_SECONDS = 5.0
AFTER_FAILURE_SECONDS = 1.0
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": nothing new\n\n"
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

log = structlog.get_logger(__name__)


class StreamParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Position after which the stream begins; Last-Event-ID, which clients send when they reconnect, overrides it."""

    after: Annotated[int, Meta(ge=0, le=LARGEST_POSITION)] = 0


class StreamedEvent(msgspec.Struct, frozen=True):
    """Event of the stream: its position, its type, and the event as JSON (position, type, occurred_at, data)."""

    id: str
    event: str
    data: str


@described(
    Response(200, "the events as they happen", (Content("text/event-stream", StreamedEvent),)),
    Response(204, "the build is over, and no event follows"),
    problem(404, "there is no such build"),
    query=StreamParameters,
    path=BuildPath,
    headers=("Last-Event-ID",),
)
async def get_build_events(request: web.Request) -> web.StreamResponse:
    """Stream the events of a build.

    The stream sends the events after a position as they happen, and ends when the build is over. When the build is over
    and no event follows, the answer is 204: a browser then stops reconnecting.
    """
    build_id, asked, last = build_id_of(request), query_parameters(request, StreamParameters), last_event_id(request)
    service, after = service_of(request), asked.after if last is None else last
    with service.streams.take(source_of(request)):
        story = await read_story(service.pool, build_id, after)
        if story is None:
            raise no_such_build(build_id)
        if story.over and not story.events:
            return web.Response(status=204)
        return await send(request, web.StreamResponse(headers=HEADERS), _frames(service, build_id, after, story))


async def _frames(service: Service, build_id: UUID, after: int, story: Story | None) -> AsyncGenerator[bytes, None]:
    """Yield frames until the build is over or the server stops.

    Errors of the database are retried, because a browser does not reconnect after an answer of 503.
    """
    yield RETRY
    while not service.watch.closed:
        story = story or await _next(service, build_id, after)
        for event in story.events:
            yield _frame(event)
        if story.over:
            return
        after, story = story.upto, None
        if not await _has_changed(service, build_id, after):
            yield HEARTBEAT


async def _next(service: Service, build_id: UUID, after: int) -> Story:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await read_story(service.pool, build_id, after) or Story([], after, over=True)
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        log.warning("build_events_not_read", error=repr(error))
        await asyncio.sleep(AFTER_FAILURE_SECONDS)
        return Story([], after, over=False)


async def _has_changed(service: Service, build_id: UUID, after: int) -> bool:
    seen = await service.watch.change(build_id, lambda build: build.log_position > after, HEARTBEAT_SECONDS)
    return seen is not None and seen.log_position > after


def _frame(event: BuildEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.position, event.type.encode(), msgspec.json.encode(event))
