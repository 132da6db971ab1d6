"""GET /v1/hotlist: which probes are worth building."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from usage_service.events import Instant, Product
from usage_service.hotlist.history import Histories
from usage_service.hotlist.listing import MOST_PROBES, HotList, Wanted, hot_list, wanted_list
from usage_service.hotlist.rules import rules_revision
from usage_service.projections.state import Projection, Revision
from usage_service.shared.postgres import Connection
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body
from usage_service.web.api.hotlist_formats import Format, forms_of, list_body, packed
from usage_service.web.etags import entity_tag
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, tagged
from usage_service.web.parameters import query_parameters

HISTORIES = web.AppKey("histories", Histories)
READS: tuple[Projection, ...] = ("catalogue", "popularity")

Budget = Annotated[int, Meta(ge=1, le=MOST_PROBES, description="how many probes at most")]
Coverage = Annotated[float, Meta(gt=0, le=1, description="the share of the next requests to be caught, such as 0.95")]


class HotlistParameters(FreshnessParameters, forbid_unknown_fields=True):
    """How long a list (100 probes, unless said otherwise), as of when (now), and in which form."""

    product: Product | None = None
    budget: Budget | None = None
    coverage: Coverage | None = None
    until: Instant | None = None
    format: Format = "json"


@dataclass(frozen=True)
class HotlistQuestion(Question):
    """What is worth building."""

    wanted: Wanted
    format: Format
    _histories: Histories

    @property
    def reads(self) -> tuple[Projection, ...]:
        """What was asked for, and what there is."""
        return READS

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """Of the question, the rows, and what operators have said."""
        return entity_tag("hot list", self.wanted, self.format, revisions, await rules_revision(connection))

    async def answer(self, connection: Connection) -> Body:
        """The probes, the best first."""
        return list_body(await hot_list(connection, self._histories, self.wanted), self.format)


@described(*tagged(*forms_of(HotList)), query=HotlistParameters)
async def get_hotlist(request: web.Request) -> web.Response:
    """The probes to build, each with its score and reasons."""
    asked = query_parameters(request, HotlistParameters)
    wanted = wanted_list(asked.product, asked.budget, asked.coverage, asked.until, datetime.now(UTC))
    question = HotlistQuestion(wanted, asked.format, request.app[HISTORIES])
    return packed(request, await answer(request, asked, question))
