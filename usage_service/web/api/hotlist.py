"""GET /v1/hotlist: the probes that are worth building; and the formats of every hot list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.hidden_probes import hidden_revision
from usage_service.hotlist.budgets import BudgetText, NothingKnownError, Number, Prices, ProbeWorth
from usage_service.hotlist.history import Histories
from usage_service.hotlist.listing import HotList, Wanted, read_for_list, wanted_list
from usage_service.hotlist.rules import rules_revision
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection, Revision
from usage_service.shared.postgres import Connection
from usage_service.web.addresses import address
from usage_service.web.answering import Deferred, Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.etags import entity_tag
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.gzipped import gzip_answer
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import Content, described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.web.tables import Item, Table
from usage_service.windows import Time

HISTORIES = web.AppKey("histories", Histories)
READS: tuple[Projection, ...] = ("build_costs", "catalogue", "popularity")
WORTH = ProbeWorth.__struct_fields__

Format = Literal["json", "lines"]
Budget = Number | BudgetText
Coverage = Annotated[float, Meta(gt=0, le=1, description="the share of the next requests to catch, such as 0.95")]


class HotlistParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Budget (100 probes by default), the time that the list is made for (now by default), and its format.

    A budget of bytes or money takes the most expected requests a byte first. `auto` lists the probes that cost more
    unbuilt, by the bytes and the minutes that somebody is expected to wait, than built.
    """

    product: Product | None = None
    budget: BudgetText | None = None
    coverage: Coverage | None = None
    until: Time | None = None
    format: Format = "json"


def formats_of(kind: type[HotList]) -> tuple[Content, ...]:
    """Return the content of each format of a hot list."""
    return json_of(kind), Content("text/plain", str)


def list_body(made: HotList, form: Format) -> Body:
    """Return a hot list in a format: `lines` has the names only."""
    if form == "lines":
        return Body("".join(f"{hot.probe}\n" for hot in made.probes).encode(), "text/plain")
    return as_json(made)


def _rows(made: Item) -> Iterator[list[object]]:
    for hot in made["probes"]:
        worth = hot["worth"] or {}
        reasons = "; ".join(reason["text"] for reason in hot["reasons"])
        yield [hot["product"], hot["probe"], hot["score"], hot["built_at"], reasons, *map(worth.get, WORTH)]


HOT_TABLE = Table(("product", "probe", "score", "built_at", "reasons", *WORTH), _rows)


def wanted_of(
    request: web.Request,
    product: str | None,
    budget: int | str | None,
    coverage: float | None = None,
    until: datetime | None = None,
) -> Wanted:
    """Return the parameters of the list that is asked for, at the prices of the settings."""
    return wanted_list(product, budget, coverage, until, datetime.now(UTC), prices_of(request))


def prices_of(request: web.Request) -> Prices:
    """Return the prices of the settings."""
    settings = service_of(request).settings
    return Prices(settings.tib_price, settings.minute_price)


def no_costs(error: NothingKnownError) -> str:
    """Return what is wrong with a budget that costs decide on, and the way out."""
    return f"{error}; give a number of probes, such as 100, until one has ended"


@dataclass(frozen=True)
class HotlistQuestion(Question):
    """Hot list in a format."""

    wanted: Wanted
    format: Format
    _histories: Histories

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views."""
        return READS

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        wanted = self.wanted
        asked = {"product": wanted.product, "budget": wanted.budget.asked, "coverage": wanted.coverage}
        return address("/v1/hotlist", **asked, format=None if self.format == "json" else self.format)

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """Return the entity tag of the question, the projections, the operators' rules and what is hidden."""
        rules = await rules_revision(connection), await hidden_revision(connection)
        return entity_tag("hot list", self.wanted, self.format, revisions, rules)

    async def answer(self, connection: Connection) -> Deferred:
        """Return what makes the hot list, or raises a Problem (422) where no cost is known to choose by."""
        make = await read_for_list(connection, self._histories, self.wanted)
        return partial(asyncio.to_thread, self._made, make)

    def _made(self, make: Callable[[], HotList]) -> Body:
        try:
            return list_body(make(), self.format)
        except NothingKnownError as error:
            raise invalid([FieldError(parameter="budget", detail=no_costs(error))]) from None


@described(*tagged(*formats_of(HotList)), query=HotlistParameters, table=HOT_TABLE)
async def get_hotlist(request: web.Request) -> web.Response:
    """Get the hot list: the probes to build, each with its score and reasons."""
    asked = query_parameters(request, HotlistParameters)
    wanted = wanted_of(request, asked.product, asked.budget, asked.coverage, asked.until)
    question = HotlistQuestion(wanted, asked.format, request.app[HISTORIES])
    return await gzip_answer(request, await answer(request, asked, question))
