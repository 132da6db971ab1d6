"""GET /v1/probes/{product}/{probe}/misses: who views a probe and finds nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.misses import Misses, find_misses
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.probes import ProbePath
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import parameters_from, query_parameters
from usage_service.windows import Time, TimeRange, time_range_between


class MissParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Time range (as in /v1/sessions), and how many sessions to list."""

    since: Time | None = None
    until: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 20


class MissAnswer(Misses, frozen=True, kw_only=True):
    """Who missed a probe in a time range."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class MissQuestion(Question):
    """Who missed a probe in a time range."""

    time_range: TimeRange
    product: str
    probe: str
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of views by hour, of sessions and of their events."""
        return ("journeys", "sessions", "timeseries")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        path = path_of("v1", "probes", self.product, self.probe, "misses")
        return address(path, since=since, until=until, limit=self.limit)

    async def answer(self, connection: Connection) -> Body:
        """Return the misses by channel, the number of people, and their latest sessions."""
        found = await find_misses(connection, self.time_range, self.product, self.probe, self.limit)
        since, until = self.time_range
        return as_json(MissAnswer(**msgspec.structs.asdict(found), since=since, until=until))


@described(*tagged(json_of(MissAnswer)), query=MissParameters, path=ProbePath, table="channels")
async def get_misses(request: web.Request) -> web.Response:
    """Get who viewed a probe and found nothing: how often in which channel, how many people, in which sessions."""
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, MissParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    return await answer(request, asked, MissQuestion(time_range, path.product, path.probe, asked.limit))
