"""GET /v1/probes/{product}/{probe}/together: what else people view in the sessions in which they view a probe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.together import Together, viewed_together
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.probes import ProbePath
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import parameters_from, query_parameters
from usage_service.windows import Time, TimeRange, time_range_between


class TogetherParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Sessions that began in a time range (as in /v1/sessions), and the largest number of other probes to list."""

    since: Time | None = None
    until: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 20


class TogetherAnswer(Together, frozen=True, kw_only=True):
    """Probes that people viewed in the same sessions, and the time range in which these sessions began."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class TogetherQuestion(ListingQuestion):
    """Other probes that people viewed in the same sessions."""

    time_range: TimeRange
    product: str
    probe: str
    limit: int
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of views (by day and by hour), of sessions and of their events."""
        return ("journeys", "popularity", "sessions", "timeseries")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        path = path_of("v1", "probes", self.product, self.probe, "together")
        return address(path, since=since, until=until, limit=self.limit)

    async def answer(self, connection: Connection) -> Body:
        """Return the other probes, those first that are viewed with it most beyond chance."""
        asked = *self.time_range, self.product, self.probe, self.limit
        found = await viewed_together(connection, self._counts, *asked)
        since, until = self.time_range
        return as_json(TogetherAnswer(**msgspec.structs.asdict(found), since=since, until=until))


@described(*tagged(json_of(TogetherAnswer)), query=TogetherParameters, path=ProbePath, table="probes")
async def get_together(request: web.Request) -> web.Response:
    """List the probes that people view in the same sessions as this one, against what is expected by chance."""
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, TogetherParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    counts = request.app[VIEW_COUNTS]
    return await answer(request, asked, TogetherQuestion(time_range, path.product, path.probe, asked.limit, counts))
