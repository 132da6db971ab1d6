"""Aggregates of a probe, as the builder stored them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection


class ProbeRow(msgspec.Struct, frozen=True):
    """A row for one combination of version, ping, system and build, `*` being all; histograms are JSON objects."""

    product: str
    channel: str
    version: int
    ping_type: str
    os: str
    build_id: str
    probe: str
    metric_type: str
    metric_key: str
    client_agg_type: str
    total_users: int
    total_sample: int
    histogram: msgspec.Raw
    percentiles: msgspec.Raw
    non_norm_histogram: msgspec.Raw
    non_norm_percentiles: msgspec.Raw
    build_date: datetime | None


class RowFilter(msgspec.Struct, frozen=True):
    """Filter of a probe's rows; a field that is None matches all."""

    version: int | None = None
    ping_type: str | None = None
    os: str | None = None
    build_id: str | None = None
    metric_key: str | None = None
    client_agg_type: str | None = None


class Result(msgspec.Struct, frozen=True):
    """Newest build of a probe that is done; `no_data` when too few clients sent the probe."""

    build_id: UUID
    state: Literal["succeeded", "no_data"]
    finished_at: datetime
    log_position: int


class Facets(msgspec.Struct, frozen=True):
    """Distinct values in a probe's rows, newest versions and builds first; `*` stands for all together."""

    versions: list[int]
    ping_types: list[str]
    systems: list[str]
    builds: list[str]
    labels: list[str]
    aggregations: list[str]


async def find_facets(connection: Connection, product: str, probe: str, channel: str) -> Facets:
    """Return the facets of a probe's rows; all are empty when there is no row."""
    [row] = await connection.fetch(query("probes", "facets"), product, probe, channel)
    return Facets(**row)


async def find_result(connection: Connection, product: str, probe: str, channel: str) -> Result | None:
    """Return the newest result of a probe, or None when it was never built."""
    row = await connection.fetchrow(query("probes", "result"), product, probe, channel)
    return msgspec.convert(dict(row), Result) if row else None


async def probe_rows(connection: Connection, product: str, probe: str, channel: str, only: RowFilter) -> list[ProbeRow]:
    """Return the probe's rows, newest version first."""
    rows = await connection.fetch(query("probes", "rows"), product, probe, channel, *msgspec.structs.astuple(only))
    return [_row(dict(row)) for row in rows]


async def is_known(connection: Connection, product: str, probe: str) -> bool:
    """Return whether the catalogue has the probe."""
    known: bool = await connection.fetchval(query("probes", "known"), product, probe)
    return known


def _row(row: dict[str, Any]) -> ProbeRow:
    # These four are JSON texts in the database and are answered unchanged.
    for name in ("histogram", "percentiles", "non_norm_histogram", "non_norm_percentiles"):
        row[name] = msgspec.Raw(str(row[name]).encode())
    return ProbeRow(**row)
