"""Rows of a probe on its page: the choice of rows, and the data of their charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from usage_service.builds.probe_rows import RowFilter, find_facets
from usage_service.shared.postgres import Connection
from usage_service.web.answers import Body, as_json
from usage_service.web.api.probes import Filter, ProbeQuestion
from usage_service.web.pages.filters import ViewParameters
from usage_service.web.pages.panels import Panel, ask_all
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
    scale_of,
    shares_over_builds,
    sums_builds,
)

NO_ROWS = RowFilter()
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
        return as_json({"state": result.state, "built_at": result.finished_at, "facets": facets})

    def rows(self, only: RowFilter) -> ProbeQuestion:
        """Return the question of the rows that pass a filter."""
        return ProbeQuestion(self.product, self.probe, self.channel, only)


async def rows_shown(request: web.Request, facets: FacetsQuestion, built: Panel, asked: ProbeView) -> dict[str, Any]:
    """Return what the template draws of the rows: `rows`, `chosen` and `drawn`; `rows` is None when there are none."""
    if built.data is None or not built.data["facets"]["versions"]:
        return {"rows": None}
    found = built.data["facets"]
    version: int = next((one for one in found["versions"] if one == asked.version), found["versions"][0])
    label, aggregation = _one_of(found["labels"], asked.label), _one_of(found["aggregations"], asked.aggregation)
    mine = RowFilter(ping_type=asked.ping, client_agg_type=aggregation)
    here = replace(mine, version=version, build_id=asked.build)
    panels = await ask_all(
        request,
        builds=facets.rows(replace(mine, os=asked.os, metric_key=label)),
        systems=facets.rows(replace(here, metric_key=label)),
        labels=facets.rows(replace(here, os=asked.os)),
    )
    rows = {name: panel.data["rows"] if panel.data else [] for name, panel in panels.items()}
    chosen = {"version": version, "build": asked.build, "ping": asked.ping, "os": asked.os}
    chosen |= {"label": label, "aggregation": aggregation}
    return {"rows": rows, "chosen": chosen, "drawn": _drawn(rows["builds"], version, asked.build)}


def _drawn(rows: list[dict[str, Any]], version: int, build: str) -> dict[str, Any]:
    row = chosen_row(rows, version, build)
    drawn: dict[str, Any] = {"row": row, "percentiles": list(BANDS), "of": percentiles_of}
    drawn["sums_builds"] = sums_builds
    versions = [one for one in rows if one["build_id"] == ALL]
    drawn |= {"numeric": any(map(is_numeric, rows)), "versions": versions}
    if drawn["numeric"]:
        bands, histogram = bands_over_builds(rows), histogram_of(row) if row else []
        return drawn | {
            "bands": bands,
            "histogram": histogram,
            "scale": scale_of(
                [value for one in bands for value in (one["p5"], one["p95"]) if isinstance(value, float)]
            ),
            "histogram_scale": scale_of([one["to"] for one in histogram if isinstance(one["to"], float)]),
        }
    shares = shares_over_builds(rows)
    categories = categories_of(row) if row else []
    return drawn | {"shares": shares, "largest_shares": largest_shares(shares), "categories": categories}


def _one_of(names: list[str], asked: str | None) -> str:
    if asked in names:
        return str(asked)
    return next((name for name in PREFERRED if name in names), names[0])
