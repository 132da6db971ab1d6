"""GET /v1/journeys: the steps of sessions, and which step follows which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.journeys import Journeys, Kind, journeys
from usage_service.stats.sessions import Bots
from usage_service.web.addresses import address
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import Time, TimeRange, time_range_between


class JourneyParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Steps of a `kind`, in sessions that began in a time range (as in /v1/sessions); paths have `steps` steps."""

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"
    kind: Kind = "all"
    steps: Annotated[int, Meta(ge=2, le=5)] = 3
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50


class JourneysAnswer(Journeys, frozen=True, kw_only=True):
    """Journeys of the sessions that began in a time range: which step followed which, the most frequent first."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class JourneysQuestion(Question):
    """Journeys of the sessions of a time range."""

    time_range: TimeRange
    product: str | None
    bots: Bots
    kind: Kind
    steps: int
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of steps and of sessions."""
        return ("journeys", "sessions")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        asked = {"product": self.product, "since": since, "until": until, "bots": self.bots, "kind": self.kind}
        return address("/v1/journeys", **asked, steps=self.steps, limit=self.limit)

    async def answer(self, connection: Connection) -> Body:
        """Return entries, exits, transitions and paths."""
        found = await journeys(connection, self.time_range, self.product, self.bots, self.kind, self.steps, self.limit)
        since, until = self.time_range
        return as_json(JourneysAnswer(**msgspec.structs.asdict(found), since=since, until=until))


@described(*tagged(json_of(JourneysAnswer)), query=JourneyParameters, table="transitions")
async def get_journeys(request: web.Request) -> web.Response:
    """List which page, probe or tool follows which, the most frequent first."""
    asked = query_parameters(request, JourneyParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    question = JourneysQuestion(time_range, asked.product, asked.bots, asked.kind, asked.steps, asked.limit)
    return await answer(request, asked, question)
