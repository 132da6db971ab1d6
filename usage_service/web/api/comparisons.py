"""GET /v1/probes/{product}/{probe}/comparison and .../changes: two choices of rows, and the builds that moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from aiohttp import web

from usage_service.builds.probe_rows import RowFilter
from usage_service.events import Channel, ProbeName
from usage_service.problems import FieldError, invalid
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.choices import Choice
from usage_service.stats.comparisons import Changes, Comparison, compare, find_changes
from usage_service.stats.differences import Estimate
from usage_service.stats.distributions import ALL
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.probes import Filter, ProbePath, ProbeQuestion, VersionNumber
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, problem, tagged
from usage_service.web.parameters import parameters_from, query_parameters
from usage_service.web.tables import Item, Table

OTHER = "with_"
SIDES, ESTIMATE = ("first", "second", "difference"), Estimate.__struct_fields__


class ChangesParameters(FreshnessParameters, forbid_unknown_fields=True, kw_only=True):
    """Channel and rows; `*` is the row of all pings or systems. By default the label and aggregation shown first."""

    channel: Channel
    ping_type: Filter = ALL
    os: Filter = ALL
    metric_key: Filter | None = None
    client_agg_type: Filter | None = None


class ComparisonParameters(ChangesParameters, forbid_unknown_fields=True, kw_only=True):
    """First side, and in what the second differs from it: at least one parameter `with_...`.

    Without a version, each side is the newest version of its probe and channel.
    """

    version: VersionNumber | None = None
    build_id: Filter = ALL
    with_probe: ProbeName | None = None
    with_channel: Channel | None = None
    with_version: VersionNumber | None = None
    with_build_id: Filter | None = None
    with_ping_type: Filter | None = None
    with_os: Filter | None = None
    with_metric_key: Filter | None = None
    with_client_agg_type: Filter | None = None


@dataclass(frozen=True)
class ComparisonQuestion(Question):
    """Difference between two choices of rows."""

    first: Choice
    second: Choice

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue, which tells unknown probes from those not built."""
        return ("catalogue",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        first, second = (_parameters(side) for side in (self.first, self.second))
        differing = {f"{OTHER}{name}": value for name, value in second.items() if value != first[name]}
        path = path_of("v1", "probes", self.first.product, str(first.pop("probe")), "comparison")
        return address(path, **first, **differing)

    async def other_revision(self, connection: Connection) -> object:
        """Return the newest build of each side; raise a Problem (404) when there is none."""
        return [await newest_build(connection, side) for side in (self.first, self.second)]

    async def answer(self, connection: Connection) -> Body:
        """Return the differences."""
        return as_json(await compare(connection, self.first, self.second))


@dataclass(frozen=True)
class ChangesQuestion(Question):
    """Builds at which a distribution moved."""

    choice: Choice

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue, and of releases, which has the revisions of builds."""
        return ("catalogue", "releases")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        asked = _parameters(self.choice)
        path = path_of("v1", "probes", self.choice.product, str(asked.pop("probe")), "changes")
        return address(path, **{name: asked[name] for name in asked if name in ChangesParameters.__struct_fields__})

    async def other_revision(self, connection: Connection) -> object:
        """Return the newest build; raise a Problem (404) when there is none."""
        return await newest_build(connection, self.choice)

    async def answer(self, connection: Connection) -> Body:
        """Return the builds, oldest first."""
        return as_json(await find_changes(connection, self.choice))


def _parameters(side: Choice) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(side).items() if name != "product"}


def _differences(found: Item) -> Iterator[list[object]]:
    for one in (*found["percentiles"], *found["categories"]):
        yield [one["of"], *(one[side][name] for side in SIDES for name in ESTIMATE)]


async def newest_build(connection: Connection, side: Choice) -> object:
    """Return the newest build of a side; raise a Problem (404) when there is none."""
    return await ProbeQuestion(side.product, side.probe, side.channel, RowFilter()).other_revision(connection)


@described(
    *tagged(json_of(Comparison)),
    problem(404, "the probe is unknown, was never built, or has no such row", "Link", "Log-Position"),
    query=ComparisonParameters,
    path=ProbePath,
    table=Table(("of", *(f"{side}_{name}" for side in SIDES for name in ESTIMATE)), _differences),
)
async def get_comparison(request: web.Request) -> web.Response:
    """Compare two choices of rows: two builds, versions, systems, labels, channels or probes.

    The answer has the difference of each percentile or category and of the distributions as a whole, with intervals.
    """
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, ComparisonParameters)
    return await answer(request, asked, comparison_question(path, asked))


def comparison_question(path: ProbePath, asked: ComparisonParameters) -> ComparisonQuestion:
    """Return the question; raise a Problem (422) when the two sides are the same."""
    given = msgspec.structs.asdict(asked)
    other = {name.removeprefix(OTHER): value for name, value in given.items() if name.startswith(OTHER)}
    other = {name: value for name, value in other.items() if value is not None}
    first = _choice(path, given)
    second = msgspec.structs.replace(first, **other)
    if first == second:
        detail = "name in what the second side differs from the first, such as with_version=150"
        raise invalid([FieldError(parameter="with_version", detail=detail)])
    return ComparisonQuestion(first, second)


@described(
    *tagged(json_of(Changes)),
    problem(404, "the probe is unknown, was never built, or has no rows", "Link", "Log-Position"),
    query=ChangesParameters,
    path=ProbePath,
    table="changes",
)
async def get_changes(request: web.Request) -> web.Response:
    """Get the builds of the application at which a probe's distribution moved beyond chance."""
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, ChangesParameters)
    return await answer(request, asked, ChangesQuestion(_choice(path, msgspec.structs.asdict(asked))))


def _choice(path: ProbePath, given: dict[str, object]) -> Choice:
    chosen = {name: given[name] for name in Choice.__struct_fields__ if name in given}
    return msgspec.convert(chosen | {"product": path.product, "probe": path.probe}, Choice)
