"""GET /api/v1/usage/: GLAM's own contract, by which its ETL reads which probes are viewed.

As in GLAM, parameters are strings and unknown ones are ignored; a value that is not valid is a 400.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, time, timedelta

from aiohttp import web
from msgspec import field

from usage_service.glam.usage import (
    COUNTED,
    DEFAULT_FIELDS,
    FIELDS,
    PROBE_SEARCH,
    UsageFilter,
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
from usage_service.web.gzipped import add_encoding_headers, compressed, gzip_answer, takes_gzip
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Response, described, ok, problem
from usage_service.web.parameters import parameters_from
from usage_service.web.streaming import stream_answer

DAY = re.compile(r"[0-9]{4}(-?)[0-9]{2}\1[0-9]{2}")
PRODUCT = re.compile(r"[a-z][a-z0-9_-]{0,31}")
COUNT = "count"


class UsageParameters(FreshnessParameters, forbid_unknown_fields=False):
    """Days from `fromDate` to before `toDate`, and the `fields` to list, or to count by with `agg=count`."""

    first: str = field(name="fromDate", default="")
    end: str = field(name="toDate", default="")
    fields: str = ""
    action: str = field(name="actionType", default="")
    agg: str = ""
    product: str = ""
    partial: str = ""


@dataclass(frozen=True)
class CountQuestion(Question):
    """Number of views by fields, as gzip when the caller accepts it."""

    only: UsageFilter
    fields: tuple[str, ...]
    is_gzip: bool
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views."""
        return ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """Return the counts, largest first."""
        body = as_json(await count_views(connection, self._counts, self.only, self.fields))
        return body._replace(data=await asyncio.to_thread(compressed, body.data)) if self.is_gzip else body


@described(
    ok(list[dict[str, str | int | None]], "ETag", "Log-Position", "Cache-Control", "Vary", means="the views"),
    Response(304, "the caller has these counts already", (), ("ETag", "Log-Position", "Cache-Control", "Vary")),
    problem(400, "a field, day or product is not valid"),
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
    fields, only = (
        _fields(asked),
        UsageFilter(_day("fromDate", asked.first), _day("toDate", asked.end), _product(asked)),
    )
    if asked.action not in ("", PROBE_SEARCH):
        return await gzip_answer(request, json_answer([]))
    if asked.agg == COUNT and asked.fields:
        is_gzip = takes_gzip(request)
        question = CountQuestion(only, fields, is_gzip, request.app[VIEW_COUNTS])
        counted = await answer(request, asked, question)
        return add_encoding_headers(counted, is_gzip)
    return await _list(request, only, fields, asked.partial == "true")


async def _list(
    request: web.Request, only: UsageFilter, fields: tuple[str, ...], is_partial: bool
) -> web.StreamResponse:
    pool, wanted = service_of(request).pool, takes_gzip(request)
    begin = await _require_whole(pool, only, is_partial)
    end = await log_end(pool)
    pieces = _array(_whole(pool, end, only, fields, is_partial))
    return await stream_answer(request, "application/json", end, pieces, headers={BEGIN: str(begin)}, as_gzip=wanted)


async def _whole(
    pool: Pool, end: int, only: UsageFilter, fields: tuple[str, ...], is_partial: bool
) -> AsyncIterator[list[bytes]]:
    async for objects in read_views(pool, end, only, fields):
        yield objects
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


async def _array(batches: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    before = b"["
    async for objects in batches:
        yield before + b",".join(objects)
        before = b","
    yield b"[]" if before == b"[" else b"]"


def _fields(asked: UsageParameters) -> tuple[str, ...]:
    if not asked.fields:
        return DEFAULT_FIELDS
    named = tuple(dict.fromkeys(asked.fields.split(",")))
    known = COUNTED if asked.agg == COUNT else FIELDS
    for name in named:
        if name not in known:
            counting = f" with agg={COUNT}" if asked.agg == COUNT else ""
            raise _wrong("fields", f"{name!r} is none of them{counting}; there are {', '.join(known)}")
    return named


def _day(name: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text if DAY.fullmatch(text) else "")
    except ValueError:
        raise _wrong(name, "must be a day as YYYYMMDD, such as 20261124") from None


def _product(asked: UsageParameters) -> str | None:
    if asked.product and not PRODUCT.fullmatch(asked.product):
        raise _wrong("product", "must be a product, such as fog or fenix")
    return asked.product or None


def _wrong(parameter: str, detail: str) -> Problem:
    return Problem(400, "Invalid parameter", f"{parameter}: {detail}", [FieldError(parameter=parameter, detail=detail)])
