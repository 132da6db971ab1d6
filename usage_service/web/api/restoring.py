"""POST /v1/events/restore: restore the events of an export at their positions."""

from __future__ import annotations

import msgspec
from aiohttp import web

from usage_service.ingest.restoring import OtherEventsError, RefusedLine, restore_lines
from usage_service.log.stored_events import StoredEvent
from usage_service.problems import FieldError, Problem, invalid
from usage_service.web.answers import json_answer
from usage_service.web.bodies import read_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import NDJSON, Content, described, ok, problem


class RefusedItem(msgspec.Struct, frozen=True):
    """A line that was not restored: its place among the lines, from 0, and what is wrong with it."""

    index: int
    error: FieldError


class RestoredAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Number of events that the log did not have before, and the lines that were refused."""

    restored: int
    refused: list[RefusedItem] = []


@described(
    ok(RestoredAnswer, "Log-Position", means="all events are restored, or were there already"),
    ok(RestoredAnswer, "Log-Position", status=207, means="some lines are refused; the other events are restored"),
    problem(409, "the log has other events at these positions; none is restored"),
    problem(422, "all lines are refused; `refused` says why"),
    body=(Content(NDJSON, StoredEvent),),
)
async def post_restore(request: web.Request) -> web.Response:
    """Restore events of an export, in the order of their positions.

    Each is judged on its own, by its own schema version, and stored as it is. The answer is 200 with the number of new
    events, 207 when some are refused, 422 when all are, and 409 when the log has other events at these positions.
    """
    if request.content_type != NDJSON:
        raise Problem(415, "Unsupported media type", f"send Content-Type: {NDJSON}, lines as GET /v1/events has them")
    lines = [line for line in (await read_body(request)).split(b"\n") if line.strip()]
    if not lines:
        raise invalid([FieldError(detail="holds no event")])
    async with service_of(request).pool.acquire(timeout=5) as connection:
        try:
            restored = await restore_lines(connection, lines)
        except OtherEventsError as error:
            raise Problem(409, "Other events are there", f"{error}; restore into an empty log") from None
    refused = list(map(_refused, restored.refused))
    if len(refused) == len(lines):
        raise _none_restored(refused)
    return json_answer(
        RestoredAnswer(restored.events, refused), status=207 if refused else 200, position=restored.position
    )


def _refused(line: RefusedLine) -> RefusedItem:
    return RefusedItem(line.number, FieldError(line.error.detail, f"/{line.number}{line.error.pointer or ''}"))


def _none_restored(refused: list[RefusedItem]) -> Problem:
    errors = [item.error for item in refused]
    detail = f"{errors[0].pointer}: {errors[0].detail}"
    return Problem(422, "No event was restored", detail, errors, refused=msgspec.to_builtins(refused))
