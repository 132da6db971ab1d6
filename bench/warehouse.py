"""Measurements of building a probe from millions of pings: seconds and bytes, against the engine and all probes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
from google.cloud import bigquery

from bench.light_statistics import measure_statistics
from bench.numbers import Row
from bench.stack import BenchError, Stack
from builder.aggregates.probe import BuildRequest
from builder.etl_demo.nights import SAMPLE_OPTIONS, Built, build_all, requests_of
from usage_service.shared.bigquery.jobs import make_client
from usage_service.shared.progress import progress
from warehouse.sample.filling import steps
from warehouse.sample.pings import PROJECT, SampleOptions
from warehouse.sample.populations import NEWEST_VERSION, TABLES
from warehouse.sample.probes import PROBES, sample_probes
from warehouse.sample.seeding import CATALOGUE, DATABASE, seed
from warehouse.serving import served

UNTIL = date(2026, 11, 24)
PROBE, COUNTER = "wr_renderer_time", "downloads_file_opened"
LARGE_CLIENTS, LARGE_PINGS = 410_000, 5_000_000  # that they send
SMALL_CLIENTS, MANY_PROBES = 1_000, 218  # 200 of them on desktop
MEMORY, USUAL_MEMORY = "4GB", "2GB"  # the second is what the embedded warehouse has unless told otherwise
TABLE = f'"{PROJECT}.{TABLES[0].dataset}"."{TABLES[0].name}"'
# The least work of any engine for shares by client: scan, sum by client and bucket, then by build and system.
BARE = " ".join(["""
    SELECT build, os, key, sum(samples / total)
    FROM (
        SELECT build, os, key, samples, sum(samples) OVER (PARTITION BY client, build, os) AS total
        FROM (
            SELECT client_info.client_id AS client, client_info.app_build AS build, client_info.os AS os,
                   item.key AS key, sum(item.value) AS samples
            FROM (SELECT client_info, unnest(metrics.timing_distribution.wr_renderer_time.values) AS item FROM
    """, TABLE, """
                  WHERE client_info.app_channel = 'nightly')
            GROUP BY ALL
        )
    )
    GROUP BY ALL
"""])  # fmt: skip
# The same for a counter: scan, aggregate by client, then clients by build and system.
BARE_COUNTER = " ".join(["""
    SELECT build, os, max(largest), min(smallest), sum(total), count(*)
    FROM (
        SELECT client_info.client_id AS client, client_info.app_build AS build, client_info.os AS os,
               max(metrics.counter.downloads_file_opened) AS largest,
               min(metrics.counter.downloads_file_opened) AS smallest,
               sum(metrics.counter.downloads_file_opened) AS total, count(*) AS pings
        FROM""", TABLE, """
        WHERE client_info.app_channel = 'nightly'
        GROUP BY ALL
    )
    GROUP BY ALL
"""])  # fmt: skip
PINGS = f"FROM {TABLE} SELECT count(*)"
# Bytes of the probe's own values, and of the columns that every probe needs.
BYTES = """
    SELECT CAST(sum(bytes) AS BIGINT) FROM about.leaf_bytes
    WHERE name = 'metrics_v1' AND (leaf[1] <> 'metrics' OR leaf[3:4] = ['wr_renderer_time', 'values'])
"""


def measure_warehouse(stack: Stack, runs: int, _seconds: float) -> list[Row]:
    """Measure a distribution and a counter of five million pings; one of 200 probes against all; the statistics."""
    large = _large(stack.directory / "large", min(runs, 3))
    return [*large, *_many(stack.directory / "many"), *measure_statistics(min(runs, 3))]


def _large(directory: Path, runs: int) -> list[Row]:
    few = tuple(probe for probe in PROBES if probe.type in ("timing_distribution", "boolean") or probe.name == COUNTER)
    seeded(directory, SampleOptions(LARGE_CLIENTS, 1, UNTIL, few, TABLES[:1]))
    return [
        _against_bare(directory, PROBE, BARE, "shares by client", MEMORY, runs, 2),
        _against_bare(directory, COUNTER, BARE_COUNTER, "aggregates by client", USUAL_MEMORY, runs, 4),
    ]


def _against_bare(directory: Path, probe: str, bare: str, what: str, memory: str, runs: int, reach: float) -> Row:
    ours, theirs = [], []
    for _ in range(runs):
        theirs.append(_bare_seconds(directory / DATABASE, bare) * 1e3)
        with opened(directory, memory) as client:
            ours.append(_built(client, directory, {probe})[0].seconds * 1e3)
    pings = _one(directory / DATABASE, PINGS)
    name, note = f"{probe} of {pings:,} pings, from request to rows", f"memory {memory}"
    return Row(name, "ms", ours, f"DuckDB alone, {what}", theirs, reach, note, most=True)


def _many(directory: Path) -> list[Row]:
    seeded(directory, SampleOptions(SMALL_CLIENTS, 1, UNTIL, sample_probes(MANY_PROBES), TABLES[:2]))
    with opened(directory) as client:
        everything = _built(client, directory, None)
        alone = _built(client, directory, {PROBE})
    columns = _one(directory / DATABASE, BYTES)
    one, share = f"{PROBE} of {len(everything)} probes", 1 / 50
    every = f"all {len(everything)} of them"
    total = sum(built.seconds for built in everything)
    return [
        Row(f"{one}: bytes read", "KB", [alone[0].bytes / 1e3], "in its columns", [columns / 1e3], 1, most=True),
        Row(f"{one}: seconds", "ms", [alone[0].seconds * 1e3], every, [total * 1e3], share, most=True),
    ]


def seeded(directory: Path, options: SampleOptions) -> None:
    """Make the sample pings, where they are not there already."""
    with progress("making up pings", steps(options)) as report:
        seed(directory, options, report)


@contextmanager
def opened(directory: Path, memory: str = MEMORY) -> Iterator[bigquery.Client]:
    """Serve the sample pings, and yield a client of the warehouse."""
    with (
        served(directory / DATABASE, memory_limit=memory) as address,
        closing(make_client(PROJECT, address, "US")) as client,
    ):
        yield client


def known_requests(directory: Path) -> list[BuildRequest]:
    """Return a request for each probe, as where releases are known: no statement has to find the newest version."""
    requests = requests_of(directory / CATALOGUE, "fog", "nightly", UNTIL)
    return [replace(request, latest_version=NEWEST_VERSION) for request in requests]


def _built(client: bigquery.Client, directory: Path, only: set[str] | None) -> list[Built]:
    chosen = [request for request in known_requests(directory) if only is None or request.probe in only]
    with progress("building probes", len(chosen)) as report:
        built = build_all(client, chosen, SAMPLE_OPTIONS, report)
    if failed := [item for item in built if item.error]:
        raise BenchError(f"{failed[0].probe} was not built: {failed[0].error}")
    return built


def _bare_seconds(database: Path, sql: str) -> float:
    with duckdb.connect(database, read_only=True, config={"threads": 2, "memory_limit": MEMORY}) as connection:
        began = time.perf_counter()
        connection.execute(sql).fetchall()
        return time.perf_counter() - began


def _one(database: Path, sql: str) -> int:
    with duckdb.connect(database, read_only=True) as connection:
        return int((connection.execute(sql).fetchone() or (0,))[0])
