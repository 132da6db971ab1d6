"""POST /v1/hotlist/built: the ETL reports the probes that it has built, thousands in one request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid5

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds.requests import near_names
from usage_service.events import Channel, Instant, ProbeName, Product
from usage_service.hotlist.budgets import MOST_PROBES
from usage_service.ingest.appending import Appended, Record
from usage_service.ingest.parsing import MOST_EVENTS, Envelope
from usage_service.problems import FieldError, Problem, invalid
from usage_service.queries import query
from usage_service.service import Service
from usage_service.web.access import source_of
from usage_service.web.answers import json_answer
from usage_service.web.api.known_names import refuse_unknown
from usage_service.web.bodies import json_body
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, json_of, ok, problem

REPORTED = UUID("0f1b4d3e-95b0-4a0e-8a52-3c0a5d8f7b16")  # namespace of the ids of these events


class BuiltReport(msgspec.Struct, forbid_unknown_fields=True):
    """Probes of a product and channel that the ETL had built at `built_at`."""

    product: Product
    channel: Channel
    built_at: Instant
    probes: Annotated[list[ProbeName], Meta(min_length=1, max_length=MOST_PROBES)]


class BuiltAnswer(msgspec.Struct, frozen=True):
    """Number of events that are new, number that were recorded before, and number of builds that they ended.

    `unknown` are the names that the catalogue does not have: they are not recorded.
    """

    recorded: int
    duplicate: int
    builds_ended: int
    unknown: list[str]


@described(
    ok(BuiltAnswer, "Log-Position"),
    problem(409, "the log has another event with the id of one of these"),
    problem(422, "the body is not valid, or nothing is known of the product, the channel, or any of the probes"),
    body=(json_of(BuiltReport),),
)
async def post_built(request: web.Request) -> web.Response:
    """Report the probes that the ETL has built.

    Each probe is recorded as an event. The same report again records nothing twice. Builds of these probes that no
    builder has begun are cancelled, with the error `built_by_etl`. Names that no hot list can have are left out.
    """
    asked, service, source = await json_body(request, BuiltReport), service_of(request), source_of(request)
    unknown = dict.fromkeys(await _unknown(service, asked))
    probes = [probe for probe in dict.fromkeys(asked.probes) if probe not in unknown]
    answers = await _record(service, [_event(asked, probe) for probe in probes], source)
    statuses = [answer.outcome for answer in answers]
    async with service.pool.acquire(timeout=5) as connection:
        ended = await connection.fetchval(
            query("hotlist", "built"), asked.product, asked.channel, probes, asked.built_at, source
        )
    body = BuiltAnswer(statuses.count("recorded"), statuses.count("duplicate"), ended, list(unknown))
    return json_answer(body, position=max(answer.position for answer in answers))


async def _unknown(service: Service, asked: BuiltReport) -> list[str]:
    """Return the probes that no hot list can have; raise a Problem (422) where nothing is known of any."""
    async with service.pool.acquire(timeout=5) as connection:
        await refuse_unknown(connection, asked.product, asked.channel)
        unknown: list[str] = await connection.fetchval(query("hotlist", "unknown"), asked.product, asked.probes)
        if len(unknown) == len(set(asked.probes)):
            near = await near_names(connection, asked.product, unknown[0])
            detail = f"the catalogue of {asked.product} has none of these, such as {unknown[0]}"
            detail += f"; did you mean {near[0]}?" if near else ""
            raise invalid([FieldError(pointer="/probes", detail=detail)])
    return unknown


def _event(asked: BuiltReport, probe: str) -> msgspec.Raw:
    at = asked.built_at.astimezone(UTC).isoformat()
    event_id = uuid5(REPORTED, f"{asked.product} {asked.channel} {probe} {at}")
    named = {"product": asked.product, "channel": asked.channel, "probe": probe}
    return msgspec.Raw(
        msgspec.json.encode({"type": "probe_built", "event_id": event_id, "occurred_at": at, **named, "data": {}})
    )


async def _record(service: Service, events: list[msgspec.Raw], source: str) -> list[Appended]:
    """Record the events in commits of the usual size, so that other requests get their turn.

    Raise a Problem: 422 when the time is not valid, 409 when an event's id is taken.
    """
    answers: list[Appended] = []
    for begin in range(0, len(events), MOST_EVENTS):
        judged = service.reader.read(Envelope(events[begin : begin + MOST_EVENTS]), source, datetime.now(UTC))
        records = [item for item in judged if isinstance(item, Record)]
        for item in judged:
            if not isinstance(item, Record):
                detail = item.error.detail.partition(";")[0]  # it goes on for those who send events
                raise invalid([FieldError(pointer="/built_at", detail=detail)])
        for answer in await service.ingest.submit(records):
            if not isinstance(answer, Appended) or answer.outcome == "conflict":
                raise Problem(409, "Not recorded", "the log has another event with the id of one of these")
            answers.append(answer)
    return answers
