"""GET /api/v1/usage/: GLAM's own contract, by which its ETL reads which probes are viewed.

As in GLAM, parameters are strings and unknown ones are ignored. The answer is always gzip, because GLAM's ETL asks for
no encoding and unpacks whatever comes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone

import asyncpg
import dateutil.parser
from aiohttp import web
from msgspec import field

from usage_service.glam.usage import (
    COUNTED,
    DEFAULT_FIELDS,
    FIELDS,
    PROBE_SEARCH,
    UsageFilter,
    as_object,
    count_listed,
    count_views,
    read_views,
    whole_from,
)
from usage_service.log.reading import log_end
from usage_service.problems import FieldError, Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection, Pool
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json, json_answer
from usage_service.web.api.log import BEGIN
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.gzipped import add_encoding_headers, compressed
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import PROBLEM, Response, described, json_of, ok, problem
from usage_service.web.parameters import parameters_from
from usage_service.web.streaming import stream_answer

PRODUCT = re.compile(r"[a-z][a-z0-9_-]{0,31}")
COUNT = "count"
COUNT_SECONDS = 300.0  # of views that have to be read one by one
USAGE_MISSES = web.AppKey("usage_misses", bool)


class InvalidFieldsError(Exception):
    """A field is none of GLAM's; the message is GLAM's own."""


class UsageParameters(FreshnessParameters, forbid_unknown_fields=False):
    """Instants from `fromDate` to `toDate`, both included, and the `fields` to list, or to count by with `agg=count`.

    A day is its first instant; any form that dateutil reads is taken, as UTC where it says no zone.
    """

    first: str = field(name="fromDate", default="")
    last: str = field(name="toDate", default="")
    fields: str = ""
    action: str = field(name="actionType", default="")
    agg: str = ""
    product: str = ""
    partial: str = ""


@dataclass(frozen=True)
class CountQuestion(Question):
    """Number of views by fields, as gzip."""

    only: UsageFilter
    fields: tuple[str, ...]
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views."""
        return ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """Return the counts, largest first."""
        body = as_json(await count_views(connection, self._counts, self.only, self.fields))
        return body._replace(data=await asyncio.to_thread(compressed, body.data))


@described(
    ok(list[dict[str, str | int | None]], "ETag", "Log-Position", "Cache-Control", "Vary", means="the views"),
    Response(304, "the caller has these counts already", (), ("ETag", "Log-Position", "Cache-Control", "Vary")),
    Response(
        400,
        "a field is not valid: with GLAM's own message; a date or product is not: as a problem",
        (json_of(list[str]), PROBLEM),
    ),
    problem(
        410,
        "views of these days were dropped: `agg=count` still counts them, `partial=true` lists the rest",
        BEGIN,
    ),
    query=UsageParameters,
)
async def get_usage(request: web.Request) -> web.StreamResponse:
    """List or count views, as GLAM's ETL asks for them.

    The answer is a JSON array of views with the given fields, in the order of the log. With `agg=count` it has the
    number of views for each combination of the fields.
    """
    asked = parameters_from(dict(request.query.items()), UsageParameters)
    try:
        fields = _fields(asked)
    except InvalidFieldsError as error:
        return json_answer([str(error)], status=400)
    only = UsageFilter(
        _instant("fromDate", asked.first), _instant("toDate", asked.last), _product(asked), request.app[USAGE_MISSES]
    )
    if asked.action not in ("", PROBE_SEARCH):
        return await _gzipped(json_answer([]))
    if asked.agg != COUNT or not asked.fields:
        return await _list(request, only, fields, asked.partial == "true")
    if only.is_of_days:
        question = CountQuestion(only, fields, request.app[VIEW_COUNTS])
        return add_encoding_headers(await answer(request, asked, question), is_gzip=True)
    return await _count(request, only, fields, asked.partial == "true")


async def _list(
    request: web.Request, only: UsageFilter, fields: tuple[str, ...], is_partial: bool
) -> web.StreamResponse:
    pool = service_of(request).pool
    begin = await _require_whole(pool, only, is_partial)
    end = await log_end(pool)
    pieces = _array(_whole(pool, end, only, is_partial), fields)
    return await stream_answer(request, "application/json", end, pieces, headers={BEGIN: str(begin)}, as_gzip=True)


async def _count(request: web.Request, only: UsageFilter, fields: tuple[str, ...], is_partial: bool) -> web.Response:
    pool = service_of(request).pool
    begin = await _require_whole(pool, only, is_partial)
    end = await log_end(pool)
    async with asyncio.timeout(COUNT_SECONDS):
        counted = await count_listed(_whole(pool, end, only, is_partial), fields)
    return await _gzipped(json_answer(counted, position=end, headers={BEGIN: str(begin)}))


async def _gzipped(plain: web.Response) -> web.Response:
    """Return the answer as gzip, whatever the caller accepts: GLAM's ETL unpacks it without looking."""
    assert isinstance(plain.body, bytes)
    plain.body = await asyncio.to_thread(compressed, plain.body)
    return add_encoding_headers(plain, is_gzip=True)


async def _whole(pool: Pool, end: int, only: UsageFilter, is_partial: bool) -> AsyncIterator[list[asyncpg.Record]]:
    async for rows in read_views(pool, end, only):
        yield rows
    await _require_whole(pool, only, is_partial)  # raises when views were dropped meanwhile


async def _require_whole(pool: Pool, only: UsageFilter, is_partial: bool) -> int:
    """Return the position from which the log is complete; raise a Problem (410) when asked-for views were dropped."""
    begin, instant = await whole_from(pool)
    if instant is None or is_partial or not only.begins_before(instant):
        return begin
    whole = (instant + timedelta(days=1)).date() if instant.time() != time() else instant.date()
    detail = (
        f"views of before {whole:%Y%m%d} were dropped from the log: count them with agg={COUNT}, which remembers them; "
        f"list from fromDate={whole:%Y%m%d} on; or say partial=true for what is left"
    )
    raise Problem(
        410, "Views were dropped", detail, [FieldError(parameter="fromDate", detail=f"is before {whole:%Y%m%d}")],
        headers={BEGIN: str(begin)},
    )  # fmt: skip


async def _array(pieces: AsyncIterator[list[asyncpg.Record]], fields: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    before = b"["
    async for rows in pieces:
        yield before + b",".join(as_object(row, fields) for row in rows)
        before = b","
    yield b"[]" if before == b"[" else b"]"


def _fields(asked: UsageParameters) -> tuple[str, ...]:
    if not asked.fields:
        return DEFAULT_FIELDS
    named = tuple(dict.fromkeys(asked.fields.split(",")))
    if not set(named) <= set(FIELDS):
        raise InvalidFieldsError("Invalid fields parameter")
    if asked.agg == COUNT and (single := [name for name in named if name not in COUNTED]):
        raise _wrong(
            "fields", f"with agg={COUNT} there are {', '.join(COUNTED)}; of each {single[0]} there is one view"
        )
    return named


def _instant(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = dateutil.parser.parse(text, tzinfos=_named_zone)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(name, "must be a date, such as 20261124") from None


def _named_zone(_name: str | None, offset: int | None) -> timezone | None:
    """Return the zone of an offset in seconds; a name of a zone is passed over, as several have the same."""
    return None if offset is None else timezone(timedelta(seconds=offset))


def _product(asked: UsageParameters) -> str | None:
    if asked.product and not PRODUCT.fullmatch(asked.product):
        raise _wrong("product", "must be a product, such as fog or fenix")
    return asked.product or None


def _wrong(parameter: str, detail: str) -> Problem:
    return Problem(400, "Invalid parameter", f"{parameter}: {detail}", [FieldError(parameter=parameter, detail=detail)])
