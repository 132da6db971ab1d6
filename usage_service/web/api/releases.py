"""GET /v1/releases/impact: the change of views after each release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.events import Channel, Instant, Product
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.releases import Impact, release_impacts
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import FIRST_INSTANT, LAST_INSTANT, query_parameters
from usage_service.windows import TimeRange


class ImpactParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Releases (the latest by default), and how many days before and after each to compare."""

    product: Product | None = None
    channel: Channel | None = None
    since: Instant = FIRST_INSTANT
    until: Instant = LAST_INSTANT
    days: Annotated[int, Meta(ge=3, le=90)] = 7
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ImpactAnswer(Struct, frozen=True):
    """Releases, latest first, and how many `days` before and after each were compared."""

    days: int
    releases: list[Impact]


@dataclass(frozen=True)
class ImpactQuestion(Question):
    """Change of views after each release, as of a day."""

    time_range: TimeRange
    product: str | None
    channel: str | None
    days: int
    today: date
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of releases and of views by hour."""
        return ("releases", "timeseries")

    async def answer(self, connection: Connection) -> Body:
        """Return the releases, latest first."""
        impacts = await release_impacts(
            connection, self.time_range, self.product, self.channel, self.days, self.today, self.limit
        )
        return as_json(ImpactAnswer(self.days, impacts))


@described(*tagged(json_of(ImpactAnswer)), query=ImpactParameters)
async def get_release_impact(request: web.Request) -> web.Response:
    """Compare views before and after each release: their ratio, its confidence interval, and the effect."""
    asked = query_parameters(request, ImpactParameters)
    if asked.since >= asked.until:
        raise invalid([FieldError(parameter="since", detail="must be before until")])
    time_range = TimeRange(asked.since.astimezone(UTC), asked.until.astimezone(UTC))
    today = datetime.now(UTC).date()
    question = ImpactQuestion(time_range, asked.product, asked.channel, asked.days, today, asked.limit)
    return await answer(request, asked, question)
