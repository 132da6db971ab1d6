"""With a sink, GLAM's own query reads from its own tables in BigQuery what our GLAM endpoint answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from google.cloud import bigquery
from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter
from typer.testing import CliRunner

from builder import cli
from builder.sinks.glam_tables import AGGREGATES, GlamTables
from builder.sinks.outbox import Batch
from builder.sinks.parquet_rows import ParquetRows
from tests.support.builders import put_in_catalogue
from tests.support.ping_warehouse import write
from tests.support.servers import Client, Connection, JsonObject
from tests.support.sinks import SINK, built, deliver_all, deliverer_of
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.jobs import JobOptions, make_client
from warehouse.serving import served

PROJECT = "local-project"
OPTIONS = JobOptions(poll_seconds=0.05, deadline_seconds=60)
# What GLAM selects from the view over its table; the view adds percentiles where there are none, and ours are there.
GLAMS_OWN = """
SELECT * FROM `{table}`
WHERE metric = @metric AND ping_type = '*' AND os = '*' AND (build_id = '*') = @of_versions
  AND version BETWEEN @latest - 20 AND @latest
"""
ORDER = ("version", "build_id", "metric_type", "metric_key", "client_agg_type")
HISTOGRAMS = ("histogram", "percentiles", "non_norm_histogram", "non_norm_percentiles")
SHOWN = (("fog", "a_ms"), ("fog", "b_ms"), ("fenix", "c_ms"))
# For each version builds, labels and aggregations that GLAM shows apart, other systems, numbers that no float holds.
ROWS = """
INSERT INTO probe_rows
SELECT $1, $2, $3, $4, version, '*', os, build, 'custom_distribution_linear', label, agg,
       9007199254740993 + $6::integer, version, '{"0": 0.0001, "2": 0.9999, "10": 0}',
       (CASE WHEN label = '' THEN '{}' ELSE '{"0.1": 0, "99.9": 10}' END)::json,
       '{"0": 1, "2": 9007199254740993, "10": 0}', '{"50": 2}',
       CASE WHEN build <> '*' THEN to_timestamp(build, 'YYYYMMDDHH24')::timestamp AT TIME ZONE 'UTC' END
FROM unnest($5::integer[]) version, unnest('{*,2026111910,2026112023}'::text[]) build, unnest('{*,Linux}'::text[]) os,
     unnest(ARRAY['', E'\u00e4 "quoted"\n']) label, unnest('{max,sum}'::text[]) agg
"""
INSERT = "INSERT INTO catalogue (product, probe, metric_type, pings) VALUES ($1, $2, $3, '{metrics,baseline}')"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("sink") / "pings.duckdb"
    write(path, ())
    with served(path) as address:
        yield address


@pytest.fixture
def bigquery_client(address: str) -> Iterator[bigquery.Client]:
    """Return a client of a warehouse whose tables of GLAM are there and empty."""
    with closing(make_client(PROJECT, address, "US")) as client:
        client.delete_dataset(SINK, delete_contents=True, not_found_ok=True)
        assert len(tables(client).create_missing()) == 6
        yield client


def tables(client: bigquery.Client) -> GlamTables:
    return GlamTables(client, SINK, OPTIONS)


def read(client: bigquery.Client, product: str, metric: str, *, of_versions: bool) -> list[JsonObject]:
    """Return the rows that GLAM reads of a probe."""
    table = tables(client).aggregates(product, "nightly")
    values = [
        ScalarQueryParameter("metric", "STRING", metric),
        ScalarQueryParameter("of_versions", "BOOL", of_versions),
        ScalarQueryParameter("latest", "INT64", 151),
    ]
    job = client.query(GLAMS_OWN.replace("{table}", table), job_config=QueryJobConfig(query_parameters=values))
    return in_order(dict(row) for row in job.result())


async def test_glams_query_reads_what_our_endpoint_answers(
    client: Client, database: Connection, database_url: str, bigquery_client: bigquery.Client
) -> None:
    for product, probe in SHOWN:
        await database.execute(INSERT, product, probe, "labeled_timing_distribution")
        await built(database, probe, 30, range(140, 152), rows=ROWS)
    async with deliverer_of(database_url, tables(bigquery_client).deliver) as deliverer:
        assert await deliver_all(database, deliverer) == 2
    for product, probe in SHOWN:
        for level, number in (("version", 4 * 12), ("build_id", 4 * 12 * 2)):
            ours = await answered(client, product, probe, level)
            theirs = await asyncio.to_thread(read, bigquery_client, product, probe, of_versions=level == "version")
            assert len(ours) == number
            assert [as_answered(row, product) for row in theirs] == ours


async def answered(client: Client, product: str, probe: str, level: str) -> list[JsonObject]:
    asked = {"product": product, "app_id": "nightly", "probe": probe, "ping_type": "*", "versions": 20}
    answer = await client.post("/api/v1/data/", json={"query": asked | {"aggregationLevel": level}})
    assert answer.status == 200
    return in_order((await answer.json())["response"])


def as_answered(row: Mapping[str, Any], product: str) -> JsonObject:
    """Return what GLAM's back end makes of a row of its table."""
    named = {"fog": (None, None), "fenix": ("nightly", "*")}
    assert (row["app_id"], row["channel"]) == named[product]
    texts = {name: json.loads(row[name]) for name in HISTOGRAMS}
    at = row["build_date"] and datetime.fromisoformat(row["build_date"]).strftime("%Y-%m-%dT%H:%M:%SZ")
    counts = {"total_users": int(row["total_users"]), "sample_count": int(row["total_sample"])}
    others = ("version", "ping_type", "os", "build_id", "metric", "metric_type", "metric_key", "client_agg_type")
    return {name: row[name] for name in others} | counts | texts | {"build_date": at, "revision": ""}


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[JsonObject]:
    return sorted(map(dict, rows), key=lambda row: [str(row[name]) for name in ORDER])


async def test_rows_of_glams_own_etl_are_replaced_by_key_and_history_stays(
    database: Connection, database_url: str, bigquery_client: bigquery.Client
) -> None:
    """Also rows of Fenix without an app, which the ETL writes."""
    await put_in_catalogue(database, "a_ms")
    await database.execute(INSERT, "fenix", "b_ms", "counter")
    for product, probe in (("fog", "a_ms"), ("fenix", "b_ms")):
        table = tables(bigquery_client).aggregates(product, "nightly")
        places = ((148, "*"), (149, "*"), (150, "*"), (150, "Linux"))
        of_etl = [{**KEY, "metric": probe, "version": v, "os": os, "total_users": 7} for v, os in places]
        await load(bigquery_client, table, of_etl)
        await built(database, probe, 30, (149, 150, 151))
    async with deliverer_of(database_url, tables(bigquery_client).deliver) as deliverer:
        assert await deliver_all(database, deliverer) == 2
        await built(database, "a_ms", 40, (150,))
        assert await deliver_all(database, deliverer) == 1
    expected = {(148, "*"): 7, (149, "*"): 30, (150, "*"): 30, (150, "Linux"): 7, (151, "*"): 30}
    assert await users(bigquery_client, "fenix") == expected
    assert await users(bigquery_client, "fog") == expected | {(150, "*"): 40}


KEY = {"ping_type": "metrics", "build_id": "*", "metric_type": "counter", "metric_key": "", "client_agg_type": "sum"}


async def load(client: bigquery.Client, table: str, rows: list[JsonObject]) -> None:
    config = bigquery.LoadJobConfig(schema=AGGREGATES, write_disposition=bigquery.WriteDisposition.WRITE_APPEND)
    await asyncio.to_thread(lambda: client.load_table_from_json(rows, table, job_config=config).result())


async def users(client: bigquery.Client, product: str) -> dict[tuple[int, str], int]:
    """Return the users of each row of the table, of which none is there twice."""
    rows = await asyncio.to_thread(lambda: list(client.list_rows(tables(client).aggregates(product, "nightly"))))
    found = {(row["version"], row["os"]): int(row["total_users"]) for row in rows}
    assert len(found) == len(rows)
    return found


async def test_a_command_creates_the_tables_that_are_missing(
    database_url: str, bigquery_client: bigquery.Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    settings = {"DATABASE_URL": database_url, "GOOGLE_CLOUD_PROJECT": PROJECT, "PROBE_BUILDER_WAREHOUSE_URL": address}
    for name, value in (settings | {"PROBE_BUILDER_SINK_DATASET": SINK}).items():
        monkeypatch.setenv(name, value)
    name = tables(bigquery_client).aggregates("fenix", "beta")
    await asyncio.to_thread(bigquery_client.delete_table, name)
    for said in (f"created {name}\n", f"{SINK} has all of GLAM's tables\n"):
        result = await asyncio.to_thread(CliRunner().invoke, cli.make_app(), ["sink-tables"])
        assert (result.exit_code, result.stdout) == (0, said)
    monkeypatch.delenv("PROBE_BUILDER_SINK_DATASET")
    result = await asyncio.to_thread(CliRunner().invoke, cli.make_app(), ["sink-tables"])
    assert str(result.exception) == "PROBE_BUILDER_SINK_DATASET: name the dataset, as project.dataset"


async def test_another_attempt_at_a_batch_adopts_its_jobs(bigquery_client: bigquery.Client) -> None:
    batch = Batch(uuid4(), "fog", "nightly", (uuid4(),), 1, is_begun=False)
    written = 0

    def write(rows: ParquetRows) -> None:
        nonlocal written
        written += 1
        rows.write([dict.fromkeys(HISTOGRAMS, "{}") | KEY | ROW])

    for _ in range(2):
        done = await asyncio.to_thread(tables(bigquery_client).deliver, batch, write, Control())
        assert done.rows == 1
    assert written == 1
    assert await users(bigquery_client, "fog") == {(150, "*"): 30}
    jobs = await asyncio.to_thread(lambda: [job.job_id for job in bigquery_client.list_jobs()])
    assert sum(job_id.startswith(f"deliver-{batch.batch_id.hex}-") for job_id in jobs) == 2


async def test_a_batch_whose_rows_are_gone_is_delivered_without_any(bigquery_client: bigquery.Client) -> None:
    batch = Batch(uuid4(), "fog", "nightly", (uuid4(),), 0, is_begun=True)
    done = await asyncio.to_thread(tables(bigquery_client).deliver, batch, lambda _rows: None, Control())
    assert done.rows == 0
    assert await users(bigquery_client, "fog") == {}


ROW = {"version": 150, "os": "*", "build_date": None, "metric": "a_ms", "total_users": 30, "total_sample": 60}


async def test_a_table_that_is_missing_is_said_and_waited_for(
    database: Connection, database_url: str, bigquery_client: bigquery.Client
) -> None:
    await put_in_catalogue(database, "a_ms")
    await built(database, "a_ms", 30)
    name = tables(bigquery_client).aggregates("fog", "nightly")
    await asyncio.to_thread(bigquery_client.delete_table, name)
    async with deliverer_of(database_url, tables(bigquery_client).deliver) as deliverer:
        assert await deliverer.deliver_next()
        error = await database.fetchval("SELECT error FROM sink_status")
        assert error["code"] == "notFound"
        assert "glam_fog_nightly_aggregates_v1" in error["message"]
        assert await asyncio.to_thread(tables(bigquery_client).create_missing) == [name]
        await deliver_all(database, deliverer)
    assert await users(bigquery_client, "fog") == {(150, "*"): 30}
