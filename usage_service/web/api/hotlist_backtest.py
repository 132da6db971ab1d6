"""GET /v1/hotlist/backtest: the share of requests that the hot list would have caught, against other policies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.hidden_probes import hidden_revision
from usage_service.hotlist.backtest.chart import chart
from usage_service.hotlist.backtest.replaying import BUDGETS, Backtest, BacktestError, backtest
from usage_service.hotlist.budgets import MOST_PROBES
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.history import Histories
from usage_service.hotlist.learning import MOST_HISTORY_DAYS
from usage_service.problems import FieldError, Problem, invalid
from usage_service.projections.state import Projection, Revision
from usage_service.shared.patterns import worded
from usage_service.shared.postgres import Connection
from usage_service.web.addresses import address
from usage_service.web.answering import Deferred, Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.hotlist import HISTORIES, READS
from usage_service.web.etags import entity_tag
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.gzipped import gzip_answer
from usage_service.web.openapi.operations import Content, described, json_of, problem, tagged
from usage_service.web.parameters import query_parameters
from usage_service.web.tables import Item, Table
from usage_service.windows import Time

MOST_BUDGETS = 20
NIGHTS = 30

Budgets = Annotated[
    str,
    Meta(
        pattern=worded(
            r"^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4})*(?!\n)$",
            "numbers from 1 to 99999, separated by commas, such as 100,500",
        ),
        description="such as 100,500",
    ),
]


class BacktestParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Number of nights, up to `until` (yesterday by default), for which `budgets`, as numbers or as a chart."""

    product: Product | None = None
    nights: Annotated[int, Meta(ge=1, le=180)] = NIGHTS
    budgets: Budgets | None = None
    until: Time | None = None
    format: Literal["json", "svg"] = "json"


@dataclass(frozen=True)
class BacktestQuestion(Question):
    """Share of requests that hot lists of some nights would have caught."""

    product: str | None
    nights: int
    budgets: tuple[int, ...]
    last_day: date
    format: str
    _histories: Histories

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views."""
        return READS

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        asked = {"product": self.product, "nights": self.nights, "budgets": ",".join(map(str, self.budgets))}
        return address("/v1/hotlist/backtest", **asked, until=self.last_day + timedelta(days=1))

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """Return the entity tag of all fields but the histories, and of what is hidden: no policy lists it."""
        asked = self.product, self.nights, self.budgets, self.last_day, self.format
        return entity_tag("backtest", asked, revisions, await hidden_revision(connection))

    async def answer(self, connection: Connection) -> Deferred:
        """Return what replays the nights, or raises a Problem (404) when there is no day to compare a list with."""
        days = self.nights + MOST_HISTORY_DAYS
        counts = await self._histories.read_last(connection, self.product, days, self.last_day)
        if counts is None:
            raise Problem(404, "Nothing to replay", f"nobody asked for a probe up to {self.last_day}")
        return partial(self._replayed, counts)

    async def _replayed(self, counts: DayCounts) -> Body:
        """Return the shares by policy and budget."""
        turn = self._histories.replaying
        await turn.acquire()
        replay = asyncio.ensure_future(
            asyncio.to_thread(backtest, counts, self.nights, self.budgets, lambda _done: None)
        )
        replay.add_done_callback(lambda _: turn.release())  # not before: a thread goes on when nobody waits any more
        try:
            found = await asyncio.shield(replay)
        except BacktestError as error:
            raise Problem(404, "Nothing to replay", str(error)) from None
        return Body(chart(found), "image/svg+xml") if self.format == "svg" else as_json(found)


def _caught(found: Item) -> Iterator[tuple[object, ...]]:
    for policy in found["policies"]:
        for budget, caught in zip(found["budgets"], policy["caught"], strict=True):
            yield policy["policy"], budget, caught


@described(
    *tagged(json_of(Backtest), Content("image/svg+xml", str)),
    problem(404, "there is no day to compare a list with"),
    query=BacktestParameters,
    table=Table(("policy", "budget", "caught"), _caught),
)
async def get_backtest(request: web.Request) -> web.Response:
    """Get the share of requests that the hot list would have caught, and that of other policies."""
    asked = query_parameters(request, BacktestParameters)
    until = asked.until.astimezone(UTC) if asked.until else None
    last = (until - timedelta(microseconds=1)).date() if until else datetime.now(UTC).date() - timedelta(days=1)
    histories = request.app[HISTORIES]
    question = BacktestQuestion(asked.product, asked.nights, _budgets(asked.budgets), last, asked.format, histories)
    return await gzip_answer(request, await answer(request, asked, question))


def _budgets(given: str | None) -> tuple[int, ...]:
    budgets = tuple(sorted({int(one) for one in given.split(",")})) if given else BUDGETS
    if len(budgets) > MOST_BUDGETS or budgets[-1] > MOST_PROBES:
        detail = f"give at most {MOST_BUDGETS} numbers from 1 to {MOST_PROBES:,}"
        raise invalid([FieldError(parameter="budgets", detail=detail)])
    return budgets
