"""GET /v1/sessions/summary: statistics of sessions, compared with another time range."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.events import Product
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.session_summaries import Summary, summarise
from usage_service.stats.sessions import Bots
from usage_service.web.addresses import address
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import Interval, Time, TimeRange, time_range_between


class SummaryParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Sessions that began in a time range (as in /v1/sessions), and the time range to compare them with.

    `compare=before` compares with the time range of the same length before; `compare=window` with that from
    `compare_since` to `compare_until`. `limit` is for the lists of what was used most.
    """

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"
    interval: Interval = "day"
    compare: Literal["none", "before", "window"] = "none"
    compare_since: Time | None = None
    compare_until: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 20


class SummaryAnswer(Struct, frozen=True):
    """Statistics of sessions, and of those that they are compared with."""

    summary: Summary
    compared_with: Summary | None


@dataclass(frozen=True)
class SummaryQuestion(Question):
    """Statistics of the sessions of each time range."""

    time_ranges: tuple[TimeRange, ...]
    product: str | None
    bots: Bots
    interval: Interval
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of sessions."""
        return ("sessions",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        (since, until), *compared = self.time_ranges
        asked: dict[str, object] = {"product": self.product, "since": since, "until": until, "bots": self.bots}
        for earlier in compared:
            asked |= {"compare": "window", "compare_since": earlier.since, "compare_until": earlier.until}
        return address("/v1/sessions/summary", **asked, interval=self.interval, limit=self.limit)

    async def answer(self, connection: Connection) -> Body:
        """Return the statistics, and those of the time range to compare with."""
        summary, *others = [
            await summarise(connection, time_range, self.product, self.bots, self.interval, self.limit)
            for time_range in self.time_ranges
        ]
        return as_json(SummaryAnswer(summary, others[0] if others else None))


@described(*tagged(json_of(SummaryAnswer)), query=SummaryParameters, table="summary.roles_over_time")
async def get_session_summary(request: web.Request) -> web.Response:
    """Summarise sessions: their length and depth, what was used, and their role in the workflow."""
    asked = query_parameters(request, SummaryParameters)
    time_ranges = _time_ranges(asked, datetime.now(UTC))
    return await answer(
        request, asked, SummaryQuestion(time_ranges, asked.product, asked.bots, asked.interval, asked.limit)
    )


def _time_ranges(asked: SummaryParameters, now: datetime) -> tuple[TimeRange, ...]:
    time_range = time_range_between(asked.since, asked.until, now)
    if asked.compare == "window":
        return time_range, _compared_window(asked)
    for name in ("compare_since", "compare_until"):
        if getattr(asked, name):
            raise invalid([FieldError(parameter=name, detail="is taken with compare=window only")])
    before = TimeRange(time_range.since - (time_range.until - time_range.since), time_range.since)
    return (time_range, before) if asked.compare == "before" else (time_range,)


def _compared_window(asked: SummaryParameters) -> TimeRange:
    if asked.compare_since is None or asked.compare_until is None:
        name = "compare_until" if asked.compare_since else "compare_since"
        raise invalid([FieldError(parameter=name, detail="is needed with compare=window")])
    if asked.compare_since >= asked.compare_until:
        raise invalid([FieldError(parameter="compare_since", detail="must be before compare_until")])
    return TimeRange(asked.compare_since.astimezone(UTC), asked.compare_until.astimezone(UTC))
