"""GET /v1/releases/...: what a release did to views, in all and of each probe, and to what probes measure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.events import Channel, Product
from usage_service.glam.probes import find_last_build
from usage_service.log.reading import whole_since
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.marks import RELEASES, MarkType, log_end, published_at
from usage_service.stats.probe_effects import ProbeEffects, probe_effects
from usage_service.stats.releases import Impact, release_impacts
from usage_service.stats.version_moves import VersionMoves, version_moves
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.addresses import address
from usage_service.web.answering import Deferred, ListingQuestion, Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.probes import VersionNumber
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, problem, tagged
from usage_service.web.parameters import query_parameters
from usage_service.windows import FIRST_TIME, LAST_TIME, Time, TimeRange, no_days

CompareDays = Annotated[int, Meta(ge=3, le=90)]


class ImpactParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Releases or other marks (the latest by default), and how many days before and after each to compare."""

    type: MarkType = RELEASES
    product: Product | None = None
    channel: Channel | None = None
    since: Time = FIRST_TIME
    until: Time = LAST_TIME
    days: CompareDays = 7
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ImpactAnswer(Struct, frozen=True):
    """Releases or other marks, latest first, and how many `days` before and after each were compared.

    Marks other than releases are events of the log, which holds all of them from `log_begins` on; null: all there were.
    """

    type: str
    days: int
    log_begins: datetime | None
    releases: list[Impact]


@dataclass(frozen=True)
class ImpactQuestion(Question):
    """Change of views after each mark of a type, as of a day."""

    type: str
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

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        asked = {"type": self.type, "product": self.product, "channel": self.channel, "since": since, "until": until}
        return address("/v1/releases/impact", **asked, days=self.days, limit=self.limit)

    async def other_revision(self, connection: Connection) -> object:
        """Return where the log ends, of which marks other than releases are read."""
        return None if self.type == RELEASES else await log_end(connection)

    async def answer(self, connection: Connection) -> Body:
        """Return the marks, latest first."""
        impacts = await release_impacts(
            connection, self.type, self.time_range, self.product, self.channel, self.days, self.today, self.limit
        )
        begins = None if self.type == RELEASES else await whole_since(connection)
        return as_json(ImpactAnswer(self.type, self.days, begins, impacts))


@described(*tagged(json_of(ImpactAnswer)), query=ImpactParameters, table="releases")
async def get_release_impact(request: web.Request) -> web.Response:
    """Compare views before and after each release: their ratio, its confidence interval, and the effect.

    With `type`, compare them before and after each day with an event of that type.
    """
    asked = query_parameters(request, ImpactParameters)
    if asked.since >= asked.until:
        raise no_days(asked.until)
    time_range = TimeRange(asked.since.astimezone(UTC), asked.until.astimezone(UTC))
    today = datetime.now(UTC).date()
    question = ImpactQuestion(asked.type, time_range, asked.product, asked.channel, asked.days, today, asked.limit)
    return await answer(request, asked, question)


class ProbeEffectsParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Product, and the day of the mark: `at`, or that on which the channel got a `version`.

    Compared are up to `days` whole days before and after it.
    """

    product: Product
    channel: Channel | None = None
    version: VersionNumber | None = None
    at: Time | None = None
    days: CompareDays = 7
    limit: Annotated[int, Meta(ge=1, le=5_000)] = 50


@dataclass(frozen=True)
class ProbeEffectsQuestion(ListingQuestion):
    """Change of the views of each probe after a mark, as of a day."""

    product: str
    channel: str | None
    version: int | None
    at: datetime | None
    days: int
    today: date
    limit: int
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of releases, and of views by hour and by probe and day."""
        return ("popularity", "releases", "timeseries")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        asked = {"product": self.product, "channel": self.channel, "version": self.version, "at": self.at}
        return address("/v1/releases/probes", **asked, days=self.days, limit=self.limit)

    async def answer(self, connection: Connection) -> Deferred:
        """Return what computes the effects; raise a Problem (404) when there is no such release."""
        at = self.at or await published_at(connection, self.product, self.channel, self.version)
        only = (self.product, self.channel, at, self.days, self.today, self.limit)
        computed = await probe_effects(connection, self._counts, *only)
        return lambda: _computed(computed)


@described(
    *tagged(json_of(ProbeEffects)),
    problem(404, "the product's channel never got this version", "Log-Position"),
    query=ProbeEffectsParameters,
    table="probes",
)
async def get_probe_effects(request: web.Request) -> web.Response:
    """Compare the views of each probe before and after a release: which probes it moved, corrected for their number."""
    asked = query_parameters(request, ProbeEffectsParameters)
    if (asked.at is None) == (asked.version is None):
        detail = "name either the day of the mark, or a version and its channel"
        raise invalid([FieldError(parameter="at", detail=detail)])
    if asked.version is not None and asked.channel is None:
        raise invalid([FieldError(parameter="channel", detail="name the channel that got the version")])
    at = asked.at.astimezone(UTC) if asked.at else None
    today = datetime.now(UTC).date()
    only = (asked.product, asked.channel, asked.version, at, asked.days, today, asked.limit)
    return await answer(request, asked, ProbeEffectsQuestion(*only, request.app[VIEW_COUNTS]))


class VersionMovesParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Version of a channel, which is compared with the one before that each probe has rows of."""

    product: Product
    channel: Channel
    version: VersionNumber
    limit: Annotated[int, Meta(ge=1, le=5_000)] = 50


@dataclass(frozen=True)
class VersionMovesQuestion(ListingQuestion):
    """Probes whose distributions a version moved."""

    product: str
    channel: str
    version: int
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return no projection that rows are of, but that of the catalogue, which is what there may be rows of."""
        return ("catalogue",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        asked = {"product": self.product, "channel": self.channel, "version": self.version, "limit": self.limit}
        return address("/v1/releases/distributions", **asked)

    async def other_revision(self, connection: Connection) -> object:
        """Return when a build was last over, and the patterns that hide probes."""
        return await find_last_build(connection), await super().other_revision(connection)

    async def answer(self, connection: Connection) -> Deferred:
        """Return what computes the moves."""
        computed = await version_moves(connection, self.product, self.channel, self.version, self.limit)
        return lambda: _computed(computed)


async def _computed(computed: Callable[[], Struct]) -> Body:
    return as_json(await asyncio.to_thread(computed))


@described(*tagged(json_of(VersionMoves)), query=VersionMovesParameters, table="probes")
async def get_version_moves(request: web.Request) -> web.Response:
    """Compare what all built probes measured in a version and in the one before: which it moved, corrected."""
    asked = query_parameters(request, VersionMovesParameters)
    question = VersionMovesQuestion(asked.product, asked.channel, asked.version, asked.limit)
    return await answer(request, asked, question)
