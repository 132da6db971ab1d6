"""POST /v1/events: record events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import AnyEvent, ExtensionEvent
from usage_service.ingest.appending import Record
from usage_service.ingest.group_commit import Answer, RefusedByDatabaseError
from usage_service.ingest.parsing import Envelope, Posted, Refusal, parse_body, parse_lines
from usage_service.problems import FieldError, Problem
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.bodies import read_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import JSON, NDJSON, Content, described, json_of, ok, problem

PARSERS = {JSON: parse_body, NDJSON: parse_lines}
EVENTS = (AnyEvent, ExtensionEvent)


# The event's UUID when it is valid, else the text that was given, and null when there was no text.
GivenId = Annotated[object, Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "null"}]})]


class ItemAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Outcome of one event of a request; `masked` points to the fields of which something is not stored."""

    index: int
    event_id: GivenId
    status: Literal["recorded", "duplicate", "conflict", "refused"]
    position: int | None = None
    error: FieldError | None = None
    masked: list[str] = []


class EventsAnswer(msgspec.Struct, frozen=True):
    """Outcome of each event, in the order of the request."""

    events: list[ItemAnswer]


@described(
    ok(EventsAnswer, "Log-Position", status=201, means="all events are recorded, or were already"),
    ok(EventsAnswer, "Log-Position", status=207, means="some events are recorded, others refused"),
    problem(422, "all events are refused; `events` has the outcome of each"),
    body=(json_of((*EVENTS, list[AnyEvent], list[ExtensionEvent], Envelope)), Content(NDJSON, EVENTS)),
)
async def post_events(request: web.Request) -> web.Response:
    """Record events.

    The answer is 201 when all events are recorded or were already, 207 when some are refused, and 422 when all are.
    """
    envelope = await _read(request)
    service = service_of(request)
    judged = service.reader.read(envelope, source_of(request), datetime.now(UTC))
    records = [item for item in judged if isinstance(item, Record)]
    answers = iter(await service.ingest.submit(records))
    items = [
        _recorded(index, item, next(answers)) if isinstance(item, Record) else _refused(index, item)
        for index, item in enumerate(judged)
    ]
    return _answer(items)


async def _read(request: web.Request) -> Posted:
    parse = PARSERS.get(request.content_type)
    if parse is None:
        raise Problem(415, "Unsupported media type", f"send Content-Type: {' or '.join(PARSERS)}")
    return parse(await read_body(request))


def _recorded(index: int, record: Record, answer: Answer) -> ItemAnswer:
    event_id = record.sent_id
    if isinstance(answer, RefusedByDatabaseError):
        return ItemAnswer(index, event_id, "refused", error=FieldError(detail=str(answer), pointer=f"/{index}"))
    if answer.outcome == "conflict":
        taken = "is used by another event: send this one under an id of its own"
        return ItemAnswer(
            index,
            event_id,
            "conflict",
            answer.position,
            FieldError(detail=taken, pointer=f"/{index}/event_id"),
        )
    masked = [f"/{index}{pointer}" for pointer in record.masked]
    return ItemAnswer(index, event_id, answer.outcome, answer.position, masked=masked)


def _refused(index: int, refusal: Refusal) -> ItemAnswer:
    error = FieldError(detail=refusal.error.detail, pointer=f"/{index}{refusal.error.pointer or ''}")
    return ItemAnswer(index, refusal.event_id, "refused", error=error)


def _answer(items: list[ItemAnswer]) -> web.Response:
    refused = [item for item in items if item.error is not None]
    position = max((item.position for item in items if item.position is not None), default=None)
    if len(refused) == len(items):
        first = refused[0].error
        raise Problem(
            422,
            "No event was recorded",
            f"{first.pointer}: {first.detail}" if first else "",
            [item.error for item in refused if item.error],
            events=msgspec.to_builtins(items),
        )
    return json_answer(EventsAnswer(items), status=207 if refused else 201, position=position)
