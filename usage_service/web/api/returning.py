"""GET /v1/returning: how many visitors of a week come again in later weeks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from usage_service.events import Product
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.returning import Returning, returning, whole_weeks
from usage_service.stats.sessions import Bots
from usage_service.web.addresses import address
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import Time, TimeRange


class ReturningParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Weeks that overlap a time range (by default the last 12), and whose sessions count.

    Weeks begin on Monday, UTC. The running week is left out.
    """

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"


@dataclass(frozen=True)
class ReturningQuestion(Question):
    """Visitors of each week, and how many came again."""

    weeks: TimeRange
    product: str | None
    bots: Bots

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of sessions."""
        return ("sessions",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.weeks
        return address("/v1/returning", product=self.product, since=since, until=until, bots=self.bots)

    async def answer(self, connection: Connection) -> Body:
        """Return the weeks, the earliest first."""
        return as_json(await returning(connection, self.weeks, self.product, self.bots))


@described(*tagged(json_of(Returning)), query=ReturningParameters, table="weeks")
async def get_returning(request: web.Request) -> web.Response:
    """Count the visitors of each week, and how many of them came again in each later week."""
    asked = query_parameters(request, ReturningParameters)
    weeks = whole_weeks(asked.since, asked.until, datetime.now(UTC))
    return await answer(request, asked, ReturningQuestion(weeks, asked.product, asked.bots))
