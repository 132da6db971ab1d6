"""Rows of a probe on its page: the choice of rows, and the data of their charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from usage_service.builds.probe_rows import RowFilter, find_facets
from usage_service.shared.postgres import Connection
from usage_service.web.answers import Body, as_json
from usage_service.web.api.probes import Filter, ProbeQuestion
from usage_service.web.api.releases import ImpactQuestion
from usage_service.web.pages.filters import Filters, ViewParameters
from usage_service.web.pages.overview import IMPACT_DAYS
from usage_service.web.pages.panels import Panel, ask, ask_all
from usage_service.web.pages.presentation.distribution import (
    ALL,
    BANDS,
    bands_over_builds,
    categories_of,
    chosen_row,
    histogram_of,
    is_numeric,
    largest_shares,
    percentiles_of,
    shares_over_builds,
    sums_builds,
    unit_of_row,
)
from usage_service.web.pages.presentation.overview import Row as Mark
from usage_service.web.pages.presentation.overview import release_marks
from usage_service.windows import TimeRange

NO_ROWS = RowFilter()
MOST_RELEASES = 20
PREFERRED = ("summed_histogram", "sum", "")


class ProbeView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Rows to show; by default the newest version, with all builds, pings and systems together."""

    version: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    build: Filter = ALL
    ping: Filter = ALL
    os: Filter = ALL
    label: Filter | None = None
    aggregation: Filter | None = None


@dataclass(frozen=True)
class FacetsQuestion(ProbeQuestion):
    """Facets of the rows of a probe that was built: the versions, builds, systems and so on to choose from."""

    async def answer(self, connection: Connection) -> Body:
        """Return the facets, and the state and time of the newest build."""
        result = await self.other_revision(connection)
        facets = await find_facets(connection, self.product, self.probe, self.channel)
        return as_json(
            {"state": result.state, "built_by": result.build_id, "built_at": result.finished_at, "facets": facets}
        )

    def rows(self, only: RowFilter) -> ProbeQuestion:
        """Return the question of the rows that pass a filter."""
        return ProbeQuestion(self.product, self.probe, self.channel, only)


async def rows_shown(
    request: web.Request, facets: FacetsQuestion, built: Panel, asked: ProbeView, filters: Filters
) -> dict[str, Any]:
    """Return what the template draws of the rows; `rows` is None when there are none."""
    if built.data is None or not built.data["facets"]["versions"]:
        return {"rows": None}
    found = built.data["facets"]
    version: int = next((one for one in found["versions"] if one == asked.version), found["versions"][0])
    label, aggregation = _one_of(found["labels"], asked.label), _one_of(found["aggregations"], asked.aggregation)
    mine = RowFilter(ping_type=asked.ping, client_agg_type=aggregation)
    here = replace(mine, version=version, build_id=asked.build)
    of_label = replace(mine, os=asked.os, metric_key=label)
    panels = await ask_all(
        request,
        builds=facets.rows(of_label),
        systems=facets.rows(replace(here, metric_key=label)),
        labels=facets.rows(replace(here, os=asked.os)),
    )
    addresses = {name: panel.address for name, panel in panels.items()}
    addresses["versions"] = facets.rows(replace(of_label, build_id=ALL)).address
    addresses["row"] = facets.rows(replace(of_label, version=version, build_id=asked.build)).address
    rows = {name: panel.data["rows"] if panel.data else [] for name, panel in panels.items()}
    chosen = {
        "version": version,
        "versions": "" if asked.version is None else version,
        "build": asked.build,
        "ping": asked.ping,
        "os": asked.os,
    }
    chosen |= {"label": label, "aggregation": aggregation}
    drawn = _drawn(rows["builds"], version, replace(asked, version=None if asked.version is None else version))
    drawn["releases"] = await _releases(request, filters, facets.channel, drawn)
    return {"rows": rows, "chosen": chosen, "drawn": drawn, "addresses": addresses}


def _drawn(rows: list[dict[str, Any]], version: int, asked: ProbeView) -> dict[str, Any]:
    """Return the row to show, and the data of the charts: of the builds of a version that is asked for, else of all."""
    row = chosen_row(rows, version, asked.build)
    drawn: dict[str, Any] = {"row": row, "percentiles": list(BANDS), "of": percentiles_of}
    drawn |= {"sums_builds": sums_builds, "unit_of": unit_of_row}
    versions = [one for one in rows if one["build_id"] == ALL]
    drawn |= {"numeric": any(map(is_numeric, rows)), "versions": versions}
    shown = [one for one in rows if asked.version in (None, one["version"])]
    if drawn["numeric"]:
        return drawn | {"bands": bands_over_builds(shown), "histogram": histogram_of(row) if row else []}
    shares = shares_over_builds(shown)
    categories = categories_of(row) if row else []
    return drawn | {"shares": shares, "largest_shares": largest_shares(shares), "categories": categories}


async def _releases(request: web.Request, filters: Filters, channel: str, drawn: Mapping[str, Any]) -> list[Mark]:
    """Return the marks of the channel from the first build that is drawn to the last."""
    starts = [datetime.fromisoformat(one["start"]) for one in drawn.get("bands") or drawn.get("shares") or []]
    if not starts:
        return []
    built = TimeRange(min(starts), max(starts) + timedelta(hours=1))
    asked = filters.product, channel, IMPACT_DAYS, filters.today, MOST_RELEASES
    question = ImpactQuestion(filters.marks, built, *asked)
    found = await ask(request, question)
    return release_marks(found.data, max((built.until - built.since).days, 1))


def _one_of(names: list[str], asked: str | None) -> str:
    if asked in names:
        return str(asked)
    return next((name for name in PREFERRED if name in names), names[0])
