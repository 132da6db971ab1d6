"""GET /api/v1/probes/, /api/v1/probes/random/ and /api/v1/updates/: GLAM's own contract.

As in GLAM, unknown parameters are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from usage_service.events import Channel, Product
from usage_service.glam.probes import ProbeInfo, ShownProbe, find_last_build, find_updates, list_probes, show_probes
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.popularity import Ranking, popular_probes
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_json, json_answer
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, json_of, ok, tagged
from usage_service.web.parameters import parameters_from
from usage_service.windows import window_days

WINDOW = "30d"
USUAL, MOST = 3, 100  # probes on the home page
MOST_TRIED = 1_000  # of the most viewed probes, of which some have no rows


class GlamProbesParameters(FreshnessParameters, forbid_unknown_fields=False):
    """Product of the probes."""

    product: Product = "fog"


class RandomParameters(GlamProbesParameters, forbid_unknown_fields=False):
    """Number of probes, 3 if it is none and 100 at most; product and channel of their rows."""

    n: str = str(USUAL)
    channel: Channel = "nightly"

    @property
    def number(self) -> int:
        """Return how many probes to show."""
        return max(0, min(int(self.n), MOST)) if self.n.isdecimal() and len(self.n) < MOST else USUAL


class UpdatesParameters(msgspec.Struct, forbid_unknown_fields=False):
    """One of the names that the answer has, such as fog-nightly; all of them by default."""

    product: str = ""


class GlamProbesAnswer(msgspec.Struct, frozen=True):
    """Probes by name."""

    probes: dict[str, ProbeInfo]


class RandomAnswer(msgspec.Struct, frozen=True):
    """Probes with their histograms, the most viewed first."""

    probes: list[ShownProbe]


class UpdatesAnswer(msgspec.Struct, frozen=True):
    """When each product and channel last got rows."""

    updates: dict[str, datetime]


@dataclass(frozen=True)
class GlamProbesQuestion(ListingQuestion):
    """Probes of a product."""

    product: str

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue."""
        return ("catalogue",)

    async def answer(self, connection: Connection) -> Body:
        """Return the probes by name."""
        return as_json(GlamProbesAnswer(await list_probes(connection, self.product)))


@dataclass(frozen=True)
class RandomQuestion(ListingQuestion):
    """Most viewed probes that have a histogram."""

    ranking: Ranking
    channel: str
    number: int
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of views and of the catalogue."""
        return ("catalogue", "popularity")

    async def other_revision(self, connection: Connection) -> object:
        """Return the revision of what is hidden, and when rows last changed."""
        return await super().other_revision(connection), await find_last_build(connection)

    async def answer(self, connection: Connection) -> Body:
        """Return the probes, the most viewed first."""
        viewed = await popular_probes(connection, self._counts, self.ranking, MOST_TRIED, None)
        names = [probe.probe for probe in viewed.probes]
        product = str(self.ranking.product)
        return as_json(RandomAnswer(await show_probes(connection, product, self.channel, names, self.number)))


@described(*tagged(json_of(GlamProbesAnswer)), query=GlamProbesParameters)
async def get_glam_probes(request: web.Request) -> web.Response:
    """List the probes of a product by name, as GLAM does: neither retired nor hidden ones."""
    asked = parameters_from(dict(request.query.items()), GlamProbesParameters)
    return await answer(request, asked, GlamProbesQuestion(asked.product))


@described(*tagged(json_of(RandomAnswer)), query=RandomParameters)
async def get_random_probes(request: web.Request) -> web.Response:
    """Get probes for GLAM's home page: in spite of the name, those most viewed in 30 days, each with a histogram."""
    asked = parameters_from(dict(request.query.items()), RandomParameters)
    ranking = Ranking(window_days(WINDOW, None, None, datetime.now(UTC)), asked.product)
    question = RandomQuestion(ranking, asked.channel, asked.number, request.app[VIEW_COUNTS])
    return await answer(request, asked, question)


@described(ok(UpdatesAnswer), query=UpdatesParameters)
async def get_updates(request: web.Request) -> web.Response:
    """Tell when each product and channel last got rows by a build."""
    asked = parameters_from(dict(request.query.items()), UpdatesParameters)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        return json_answer(UpdatesAnswer(await find_updates(connection, asked.product)))
