"""POST /v1/events/restore: restore the events of an export at their positions."""

from __future__ import annotations

import msgspec
from aiohttp import web

from usage_service.log.stored_events import OtherEventsError, StoredEvent, restore
from usage_service.problems import FieldError, Problem, field_error, invalid
from usage_service.web.answers import json_answer
from usage_service.web.bodies import read_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import NDJSON, Content, described, ok, problem


class RestoredAnswer(msgspec.Struct, frozen=True):
    """Number of events that the log did not have before."""

    restored: int


@described(
    ok(RestoredAnswer, "Log-Position"),
    problem(409, "the log has other events at these positions"),
    body=(Content(NDJSON, StoredEvent),),
)
async def post_restore(request: web.Request) -> web.Response:
    """Restore events of an export, in the order of their positions.

    The answer is 200 with the number of new events, and 409 when the log has other events at these positions.
    """
    if request.content_type != NDJSON:
        raise Problem(415, "Unsupported media type", f"send Content-Type: {NDJSON}, lines as GET /v1/events has them")
    events = _decode(await read_body(request))
    async with service_of(request).pool.acquire(timeout=5) as connection:
        try:
            restored = await restore(connection, events)
        except OtherEventsError as error:
            raise Problem(409, "Other events are there", f"{error}; restore into an empty log") from None
    return json_answer(RestoredAnswer(restored), position=events[-1].position)


def _decode(body: bytes) -> list[StoredEvent]:
    try:
        events = msgspec.json.Decoder(StoredEvent).decode_lines(body)
    except msgspec.ValidationError as error:
        raise invalid([field_error(error, StoredEvent.__struct_encode_fields__)]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(400, "Not NDJSON", f"a line is not JSON: {error}") from None
    if not events:
        raise invalid([FieldError(detail="holds no event")])
    positions = [event.position for event in events]
    if positions[0] < 1 or positions != sorted(set(positions)):
        raise invalid([FieldError(detail="positions must begin at 1 or later and rise", pointer="/position")])
    return events
