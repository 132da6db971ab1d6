"""Every statement that a build can run is valid GoogleSQL for the real column types.

Google's own reference engine gives the same rows for it as the embedded warehouse.
"""

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from google.cloud import bigquery

from builder.aggregates.definition import Definition
from builder.aggregates.metric_shapes import SHAPES
from builder.aggregates.probe import BuildRequest, Combination
from builder.aggregates.source import SourceOptions, latest_version_statement, probe_statement
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.aggregates.together import read_alike
from builder.sinks.glam_tables import AGGREGATES, STAGED, GlamTables
from builder.sinks.outbox import Batch
from tests.support.glam_today_reference import DATASETS, Ping
from tests.support.googlesql import FENIX_DATASETS, METRICS, PROBES, GoogleSql
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.reference_engine import Type
from tests.support.remembered import RefusedError
from usage_service.shared.bigquery.jobs import JobOptions, make_client
from usage_service.shared.bigquery.statement import Statement

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("zetasql"), reason="zetasql cannot be imported here"),
    pytest.mark.timeout(300),  # the first run on a machine compiles the engine
]

OPTIONS = SourceOptions(thresholds=Thresholds({}, Minimum(2, 1)))
CELLS = ["probe", *Combination._fields, "users", "samples", "weighted", "cells"]
A_ROW_A_CELL = """
SELECT
  probe, version, ping_type, os, build_hour, metric_key, client_agg_type, users, samples, weighted, cell
FROM (
{}
)
CROSS JOIN UNNEST(SPLIT(cells, @nul)) AS cell
"""
REQUEST = BuildRequest(UUID(int=7), "fog", "release", "", "", ("metrics", "baseline"), RUN_DATE, 150)
FENIX = replace(REQUEST, product="fenix")
REQUESTS = [replace(REQUEST, probe=PROBES[name], metric_type=name) for name in SHAPES]
DECLARED = replace(REQUEST, probe=PROBES["labeled_counter"], metric_type="labeled_counter")
REQUESTS += [replace(DECLARED, definition=Definition(labels=("a",)))]
SAME = (
    "quantity",
    "memory_distribution",
    "custom_distribution",
    "labeled_memory_distribution",
)  # as others are
REQUESTS += [replace(FENIX, probe=PROBES[name], metric_type=name) for name in ("counter", "timing_distribution")]
REQUESTS += [replace(FENIX, channel="nightly", probe=PROBES["timing_distribution"], metric_type="timing_distribution")]
ALIKE = [alike for alike in read_alike(REQUESTS, OPTIONS) if len(alike) > 1]


def name_of(request: BuildRequest) -> str:
    return (
        f"{request.product}-{request.channel}-{request.metric_type}{'-declared' if request.definition.labels else ''}"
    )


GLAM = GlamTables(make_client("local-project", "http://127.0.0.1:1", "US"), "glam-project.glam_etl", JobOptions())
BATCHES = [Batch(UUID(int=8), product, "nightly", (), 1, is_begun=False) for product in ("fog", "fenix")]


@pytest.fixture(scope="module")
def googlesql() -> GoogleSql:
    return GoogleSql(glam_tables())


def glam_tables() -> dict[str, dict[str, Type]]:
    """Return the columns of GLAM's own tables, and of those that rows are staged in."""
    own, staged = columns(AGGREGATES), columns(STAGED)
    return {GLAM.aggregates(*batch.of_channel): own for batch in BATCHES} | {
        GLAM.staged(*batch.of_channel): staged for batch in BATCHES
    }


def columns(fields: Iterable[bigquery.SchemaField]) -> dict[str, Type]:
    return {field.name: field.field_type.replace("INTEGER", "INT64") for field in fields}


@pytest.fixture(scope="module")
def pings() -> list[Ping]:
    own = [random_pings(12, 15, channel, 4, DATASETS[channel]) for channel in ("release", "nightly")]
    return random_pings(11, 15, "release", 4) + own[0] + own[1]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, pings: list[Ping]) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("engines") / "pings.duckdb", pings) as client:
        yield client


def test_the_columns_are_those_of_every_metric_type() -> None:
    assert set(SHAPES) == set(METRICS)
    assert f"{DATASETS['release']}_stable" in FENIX_DATASETS


@pytest.mark.parametrize("request_of", REQUESTS, ids=name_of)
def test_each_statement_type_checks(googlesql: GoogleSql, request_of: BuildRequest) -> None:
    found = googlesql.columns(probe_statement([request_of], OPTIONS, 150))
    assert sorted(found) == sorted(CELLS)


@pytest.mark.parametrize("alike", ALIKE, ids=lambda alike: f"{len(alike)} like {name_of(alike[0])}")
def test_each_statement_of_several_probes_type_checks(googlesql: GoogleSql, alike: list[BuildRequest]) -> None:
    found = googlesql.columns(probe_statement(alike, OPTIONS, 150))
    assert sorted(found) == sorted(CELLS)


@pytest.mark.parametrize("request_of", [REQUESTS[0], REQUESTS[-1]], ids=name_of)
def test_the_search_for_the_latest_version_type_checks(googlesql: GoogleSql, request_of: BuildRequest) -> None:
    assert googlesql.columns(latest_version_statement(request_of, OPTIONS)) == ["version"]


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch.product)
def test_the_merge_into_glams_own_tables_type_checks(googlesql: GoogleSql, batch: Batch) -> None:
    merge = GLAM.merge_statement(batch)
    googlesql.check_change(merge)
    with pytest.raises(RefusedError, match="STRING cannot be assigned to total_users"):
        googlesql.check_change(
            replace(merge, sql=merge.sql.replace("total_users = S.total_users", "total_users = S.os"))
        )


@pytest.mark.parametrize("request_of", [r for r in REQUESTS if r.metric_type not in SAME], ids=name_of)
def test_the_reference_engine_gives_the_rows_of_the_warehouse(
    googlesql: GoogleSql, client: bigquery.Client, pings: list[Ping], request_of: BuildRequest
) -> None:
    statement = probe_statement([request_of], OPTIONS, 150)
    statement = replace(statement, sql=A_ROW_A_CELL.format(statement.sql))  # cells have no order
    rows = answered(client, statement)
    assert in_order(googlesql.evaluate(statement, pings)) == in_order(rows)
    assert rows


def answered(client: bigquery.Client, statement: Statement) -> list[dict[str, Any]]:
    config = bigquery.QueryJobConfig(query_parameters=list(statement.parameters))
    return [dict(row) for row in client.query(statement.sql, job_config=config).result(timeout=60)]


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[tuple[tuple[str, str], ...]]:
    """Return the rows sorted, with numbers rounded as far as the order of their summands matters."""
    return sorted(tuple((name, plain(value)) for name, value in sorted(with_cell(**row).items())) for row in rows)


def with_cell(cell: str, **row: object) -> Mapping[str, object]:
    """Return the row with the parts of its cell as they are read."""
    samples, amount, bucket = cell.split(" ", 2)
    return row | {"bucket": bucket, "amount": float(amount), "cell_samples": int(samples)}


def plain(value: object) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return f"{value:.9g}" if number else repr(value)
