"""GET /v1/funnel: in how many sessions people took some steps one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Product
from usage_service.projections.state import Projection
from usage_service.shared.patterns import worded
from usage_service.shared.postgres import Connection
from usage_service.stats.funnel import DEFAULT_STEPS, Funnel, funnel
from usage_service.stats.sessions import Bots
from usage_service.web.addresses import address
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import Time, TimeRange, time_range_between

TYPES = "page_viewed|probe_searched|probe_viewed|control_changed|link_followed"
StepText = Annotated[
    str,
    Meta(
        max_length=2_100,
        pattern=worded(
            rf"^({TYPES}|x_[a-z0-9_]{{1,62}})(:[^\x00\n]+)?(?!\n)$",
            f"{TYPES.replace('|', ', ')} or a type of yours that begins with x_, then nothing, or : and what it names",
        ),
        description="a type of event, or one with the page, probe, tool or control that it names: control_changed:os",
    ),
]
Steps = Annotated[tuple[StepText, ...], Meta(max_length=8)]


class FunnelParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Steps in their order, and the sessions (as in /v1/sessions) in which they are looked for.

    By default: somebody searches, views a probe, changes a control, and leaves for another tool.
    """

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"
    step: Steps = DEFAULT_STEPS


class FunnelAnswer(Funnel, frozen=True, kw_only=True):
    """Funnel of the sessions that began in a time range."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class FunnelQuestion(Question):
    """Steps taken in the sessions of a time range."""

    time_range: TimeRange
    product: str | None
    bots: Bots
    steps: tuple[str, ...]

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of events of sessions and of sessions."""
        return ("journeys", "sessions")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        asked = {"product": self.product, "since": since, "until": until, "bots": self.bots, "step": self.steps}
        return address("/v1/funnel", **asked)

    async def answer(self, connection: Connection) -> Body:
        """Return how many sessions got to each step."""
        found = await funnel(connection, self.time_range, self.product, self.bots, self.steps)
        since, until = self.time_range
        return as_json(FunnelAnswer(**msgspec.structs.asdict(found), since=since, until=until))


@described(*tagged(json_of(FunnelAnswer)), query=FunnelParameters, table="steps")
async def get_funnel(request: web.Request) -> web.Response:
    """Count the sessions in which people took these steps in their order, and where they stopped."""
    asked = query_parameters(request, FunnelParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    question = FunnelQuestion(time_range, asked.product, asked.bots, asked.step or DEFAULT_STEPS)
    return await answer(request, asked, question)
