"""GET /v1/probes/{product}/{probe}: the aggregates of a probe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.builds.probe_rows import ProbeRow, Result, RowFilter, find_result, is_known, probe_rows
from usage_service.builds.requests import near_names
from usage_service.events import NO_NUL, Channel, ProbeName, Product
from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import Entry, find_entry
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, problem, tagged
from usage_service.web.parameters import parameters_from, query_parameters

Filter = Annotated[str, Meta(max_length=200, pattern=NO_NUL)]
VersionNumber = Annotated[int, Meta(ge=0, le=100_000)]


class ProbePath(msgspec.Struct):
    """Probe that the path names."""

    product: Product
    probe: ProbeName


class ProbeParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Channel, and filters of the rows; `*` is the row of all pings, operating systems or builds together."""

    channel: Channel
    version: VersionNumber | None = None
    ping_type: Filter | None = None
    os: Filter | None = None
    build_id: Filter | None = None
    metric_key: Filter | None = None
    client_agg_type: Filter | None = None


class ProbeAnswer(msgspec.Struct, frozen=True):
    """Rows of a probe, newest version first, and its newest build; what that one did not build is from earlier ones.

    `registered` is what the catalogue says of it.
    """

    product: str
    channel: str
    probe: str
    state: Literal["succeeded", "no_data"]
    built_by: UUID
    built_at: datetime
    rows: list[ProbeRow]
    registered: Entry | None


@dataclass(frozen=True)
class ProbeQuestion(Question):
    """Rows of a probe that was built."""

    product: str
    probe: str
    channel: str
    only: RowFilter

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue, which tells unknown probes from those not built; rows are none."""
        return ("catalogue",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        asked = msgspec.structs.asdict(self.only) | {"channel": self.channel}
        return address(f"/v1/probes{path_of(self.product, self.probe)}", **asked)

    async def other_revision(self, connection: Connection) -> Result:
        """Return the newest build; raise a Problem (404) when there is none."""
        result = await find_result(connection, self.product, self.probe, self.channel)
        if result is None:
            known = await is_known(connection, self.product, self.probe)
            near = [] if known else await near_names(connection, self.product, self.probe)
            raise _not_built(self, known, near)
        return result

    async def answer(self, connection: Connection) -> Body:
        """Return the rows, newest version first, the newest build, and the entry in the catalogue."""
        result = await self.other_revision(connection)
        rows = await probe_rows(connection, self.product, self.probe, self.channel, self.only)
        from_build = (result.state, result.build_id, result.finished_at)
        entry = await find_entry(connection, self.product, self.probe)
        return as_json(ProbeAnswer(self.product, self.channel, self.probe, *from_build, rows, entry))


@described(
    *tagged(json_of(ProbeAnswer)),
    problem(404, "the probe is unknown, or was never built: then POST `request` to /v1/builds", "Link", "Log-Position"),
    query=ProbeParameters,
    path=ProbePath,
    table="rows",
)
async def get_probe(request: web.Request) -> web.Response:
    """Get the aggregates of a probe.

    The answer is 404 with a link to /v1/builds when the probe was never built.
    """
    path = parameters_from(dict(request.match_info), ProbePath)
    asked = query_parameters(request, ProbeParameters)
    only = msgspec.convert(asked, RowFilter, from_attributes=True)
    return await answer(request, asked, ProbeQuestion(path.product, path.probe, asked.channel, only))


def _not_built(asked: ProbeQuestion, known: bool, near: list[str]) -> Problem:
    if not known:
        detail = f"{asked.product} has no probe {asked.probe}"
        hint = f"; did you mean {near[0]}?" if near else ""
        return Problem(404, "Unknown probe", detail + hint, near_names=near)
    wanted = {"product": asked.product, "channel": asked.channel, "probe": asked.probe}
    where = f"{asked.product} {asked.channel}"
    return Problem(
        404,
        "Not built yet",
        f"{asked.probe} was never built for {where}; POST this `request` to /v1/builds to ask for it",
        headers={"Link": '</v1/builds>; rel="create-form"'},
        request=wanted,
    )
