"""GET /v1/timeseries: views and visitors over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.events import Channel, ProbeName, Product
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.timeseries import Series, bucket_range, time_series
from usage_service.web.addresses import address
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import Interval, Time, TimeRange


class TimeSeriesParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Views of each given `probe`, or of all the product's probes together, by hour, day or week.

    The buckets are all that overlap the range from `since` to `until`; by default the last 48 hours, 30 days or 12
    weeks. Weeks begin on Monday. All times are UTC.
    """

    product: Product
    probe: Annotated[tuple[ProbeName, ...], Meta(max_length=10)] = ()
    channel: Channel | None = None
    interval: Interval = "day"
    since: Time | None = None
    until: Time | None = None
    bots: bool = False


class TimeSeriesAnswer(Struct, frozen=True):
    """Time series of each probe, with the buckets from `since` to `until`."""

    product: str
    channel: str | None
    interval: Interval
    since: datetime
    until: datetime
    series: list[Series]


@dataclass(frozen=True)
class TimeSeriesQuestion(Question):
    """Views and visitors in each bucket of a time range."""

    time_range: TimeRange
    interval: Interval
    product: str
    probes: tuple[str, ...]
    channel: str | None
    bots: bool

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views by hour."""
        return ("timeseries",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        asked = {"product": self.product, "probe": self.probes, "channel": self.channel, "interval": self.interval}
        return address("/v1/timeseries", **asked, since=since, until=until, bots=self.bots)

    async def answer(self, connection: Connection) -> Body:
        """Return the time series of each probe, without gaps."""
        series = await time_series(
            connection, self.time_range, self.interval, self.product, self.probes, self.channel, self.bots
        )
        return as_json(TimeSeriesAnswer(self.product, self.channel, self.interval, *self.time_range, series))


@described(*tagged(json_of(TimeSeriesAnswer)), query=TimeSeriesParameters, table="series.buckets")
async def get_timeseries(request: web.Request) -> web.Response:
    """Get views (of data that was found, or missing) and distinct visitors over time."""
    asked = query_parameters(request, TimeSeriesParameters)
    time_range = bucket_range(asked.interval, asked.since, asked.until, datetime.now(UTC))
    probes = tuple(dict.fromkeys(asked.probe))
    question = TimeSeriesQuestion(time_range, asked.interval, asked.product, probes, asked.channel, asked.bots)
    return await answer(request, asked, question)
