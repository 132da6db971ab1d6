"""A night on the embedded warehouse: rows as of single builds, byte for byte; one that breaks fails alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, aggregate_probe
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.running import warehouse_of
from tests.support.builders import running_builder
from tests.support.googlesql import PROBES
from tests.support.nights import request_night, until_over
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import Connection

OPTIONS = AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
DEFINITION = Definition("exponential", 1, 90, 12)
PINGS = ("baseline", "metrics")
MISSING = "is_missing"
# Of each family, some in one job; that all types have the rows of single builds is tested of the jobs themselves.
TYPES = ("boolean", "counter", "quantity", "labeled_counter", "timing_distribution", "custom_distribution")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("night") / "pings.duckdb", random_pings(5, 40, "nightly")) as client:
        yield client


async def stored_rows(database: Connection, probe: str) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        """
        SELECT version, ping_type, os, build_id, metric_type, metric_key, client_agg_type, total_users, total_sample,
               histogram::text, percentiles::text, non_norm_histogram::text, non_norm_percentiles::text, build_date
        FROM probe_rows WHERE probe = $1
        """,
        probe,
    )
    return sorted(map(tuple, rows))


async def test_rows_are_those_of_single_builds(
    own_database_url: str, own_database: Connection, client: bigquery.Client
) -> None:
    definition = {name: value for name, value in msgspec.to_builtins(DEFINITION).items() if value is not None}
    types = {PROBES[metric_type]: metric_type for metric_type in TYPES} | {MISSING: "counter"}
    await own_database.executemany(
        "INSERT INTO catalogue (product, probe, metric_type, pings, definition) VALUES ('fog', $1, $2, $3, $4)",
        [(probe, metric_type, list(PINGS), definition) for probe, metric_type in types.items()],
    )
    await own_database.execute(
        "SELECT set_config('usage.now', $1, false)", datetime.combine(RUN_DATE, time(12), UTC).isoformat()
    )
    made = warehouse_of(client, OPTIONS)
    async with running_builder(own_database_url, made.aggregate, readings=made.readings):
        night = await request_night(own_database, list(types))
        await until_over(own_database, night, 60)
    ended = await own_database.fetchrow("SELECT * FROM night_totals WHERE night_id = $1", night)
    assert ended is not None
    assert (ended["built"] + ended["without_data"], ended["failed"]) == (len(TYPES), 1)
    error = await own_database.fetchval("SELECT error ->> 'code' FROM builds WHERE probe = $1", MISSING)
    assert error == "invalidQuery"
    assert ended["jobs"] < len(types)
    seen = alone_bytes = 0
    for probe in types.keys() - {MISSING}:
        request = BuildRequest(uuid4(), "fog", "nightly", probe, types[probe], PINGS, RUN_DATE, None, DEFINITION)
        alone = aggregate_probe(client, request, OPTIONS, lambda *_: None)
        alone_bytes += alone.bytes_processed
        rows = await stored_rows(own_database, probe)
        assert rows == sorted(map(tuple, alone.rows)), probe
        seen += len(rows)
    assert seen > 100
    in_vain = await own_database.fetchval("SELECT bytes FROM shared_jobs WHERE state = 'failed'")  # to find the version
    assert ended["expected_bytes"] + in_vain == ended["bytes"] < alone_bytes + in_vain
