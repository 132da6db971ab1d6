"""GET /v1/hotlist/backtest: the share of requests that the hot list would have caught, against other policies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta

from usage_service.events import Instant, Product
from usage_service.hotlist.backtest.chart import chart
from usage_service.hotlist.backtest.replaying import BUDGETS, Backtest, BacktestError, backtest
from usage_service.hotlist.budgets import MOST_PROBES
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.history import read_last_days
from usage_service.hotlist.learning import MOST_HISTORY_DAYS
from usage_service.problems import FieldError, Problem, invalid
from usage_service.projections.state import Projection, Revision
from usage_service.shared.postgres import Connection
from usage_service.web.answering import Computation, Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.hotlist import HISTORIES, READS, compressible
from usage_service.web.etags import entity_tag
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import Content, described, json_of, problem, tagged
from usage_service.web.parameters import query_parameters

MOST_BUDGETS = 20
NIGHTS = 30

Budgets = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4})*(?!\n)$", description="such as 100,500")]


class BacktestParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Number of nights, up to `until` (yesterday by default), for which `budgets`, as numbers or as a chart."""

    product: Product | None = None
    nights: Annotated[int, Meta(ge=1, le=180)] = NIGHTS
    budgets: Budgets | None = None
    until: Instant | None = None
    format: Literal["json", "svg"] = "json"


@dataclass(frozen=True)
class BacktestQuestion(Question):
    """Share of requests that hot lists of some nights would have caught."""

    product: str | None
    nights: int
    budgets: tuple[int, ...]
    last_day: date
    format: str
    _turn: asyncio.Semaphore

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views."""
        return READS

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """Return the entity tag of all fields but the semaphore."""
        return entity_tag("backtest", self.product, self.nights, self.budgets, self.last_day, self.format, revisions)

    async def answer(self, connection: Connection) -> Computation:
        """Return what replays the nights, or raises a Problem (404) when there is no day to compare a list with."""
        async with self._turn:
            counts = await read_last_days(connection, self.product, self.nights + MOST_HISTORY_DAYS, self.last_day)
        if counts is None:
            raise Problem(404, "Nothing to replay", f"nobody asked for a probe up to {self.last_day}")
        return partial(self._replayed, counts)

    async def _replayed(self, counts: DayCounts) -> Body:
        """Return the shares by policy and budget."""
        try:
            async with self._turn:
                found = await asyncio.to_thread(backtest, counts, self.nights, self.budgets, lambda _done: None)
        except BacktestError as error:
            raise Problem(404, "Nothing to replay", str(error)) from None
        return Body(chart(found), "image/svg+xml") if self.format == "svg" else as_json(found)


@described(
    *tagged(json_of(Backtest), Content("image/svg+xml", str)),
    problem(404, "there is no day to compare a list with"),
    query=BacktestParameters,
)
async def get_backtest(request: web.Request) -> web.Response:
    """Get the share of requests that the hot list would have caught, and that of other policies."""
    asked = query_parameters(request, BacktestParameters)
    until = asked.until.astimezone(UTC) if asked.until else None
    last = (until - timedelta(microseconds=1)).date() if until else datetime.now(UTC).date() - timedelta(days=1)
    turn = request.app[HISTORIES].replaying
    question = BacktestQuestion(asked.product, asked.nights, _budgets(asked.budgets), last, asked.format, turn)
    return compressible(request, await answer(request, asked, question))


def _budgets(given: str | None) -> tuple[int, ...]:
    budgets = tuple(sorted({int(one) for one in given.split(",")})) if given else BUDGETS
    if len(budgets) > MOST_BUDGETS or budgets[-1] > MOST_PROBES:
        detail = f"give at most {MOST_BUDGETS} numbers from 1 to {MOST_PROBES:,}"
        raise invalid([FieldError(parameter="budgets", detail=detail)])
    return budgets
