"""A build pays for the probe's own column, the columns that every probe needs, and the days of its window."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, BuildRequest, aggregate_probe
from builder.aggregates.definition import Definition
from builder.aggregates.metric_shapes import SHAPES
from builder.aggregates.source import SourceOptions, probe_statement
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.queries import render
from tests.support.glam_today_reference import DATASETS
from tests.support.googlesql import COUNTER, GECKOVIEW_VERSIONS, PROBES, TIMING
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import BYTES_A_CELL, warehouse

REQUEST = BuildRequest(UUID(int=9), "fog", "nightly", TIMING, "timing_distribution", ("metrics",), RUN_DATE, 150)
COUNTER_REQUEST = replace(REQUEST, probe=COUNTER, metric_type="counter")
ALL_CLIENTS = AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
CUSTOM = Definition("linear", 0, 100, 10)
FIXED_COLUMNS = 8
PINGS = random_pings(3, 150)
FENIX = [replace(ping, dataset=DATASETS["nightly"]) for ping in PINGS[:40]]


def own_columns(metric_type: str) -> int:
    """Return how many columns are read: 1 of a plain value, 2 of pairs, 3 of pairs under a label; never the sum."""
    labels = 1 if "labeled" in metric_type else 0
    return labels + (2 if "distribution" in metric_type else 2 if "dual" in metric_type else 1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("needed") / "pings.duckdb", [*PINGS, *FENIX]) as client:
        yield client


@pytest.mark.parametrize("metric_type", SHAPES)
def test_the_bytes_are_those_of_its_columns_and_days(client: bigquery.Client, metric_type: str) -> None:
    first = RUN_DATE - timedelta(days=365)
    read = [p for p in PINGS if p.ping_type == "metrics" and first <= p.submitted.date() <= RUN_DATE]
    request = replace(REQUEST, probe=PROBES[metric_type], metric_type=metric_type, definition=CUSTOM)
    built = aggregate_probe(client, request, ALL_CLIENTS, lambda *_: None)
    once = len(read) * (FIXED_COLUMNS + own_columns(metric_type)) * BYTES_A_CELL
    assert len(read) < len(PINGS)
    assert built.bytes_processed == once
    assert len(built.job_ids) == 1


def test_fenix_nightly_pays_for_the_table_of_its_engines_versions(client: bigquery.Client) -> None:
    """It reads neither channel nor version of its pings; the table has an hour and a version."""
    first = RUN_DATE - timedelta(days=365)
    read = [p for p in FENIX if p.ping_type == "metrics" and first <= p.submitted.date() <= RUN_DATE]
    built = aggregate_probe(client, replace(REQUEST, product="fenix"), ALL_CLIENTS, lambda *_: None)
    cells = len(read) * (FIXED_COLUMNS - 2 + own_columns("timing_distribution")) + len(GECKOVIEW_VERSIONS) * 2
    assert built.bytes_processed == cells * BYTES_A_CELL


@pytest.mark.parametrize("request_of", [REQUEST, COUNTER_REQUEST], ids=lambda request: request.metric_type)
def test_progress_names_its_stages_and_only_rises(client: bigquery.Client, request_of: BuildRequest) -> None:
    told: list[tuple[str, int, int]] = []
    request = replace(request_of, latest_version=None)
    built = aggregate_probe(client, request, ALL_CLIENTS, lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["finding_version", "aggregating", "statistics"]
    assert [step[1:] for step in told] == sorted(step[1:] for step in told)
    assert told[-1][2] == built.bytes_processed


def test_no_other_metric_is_named_in_a_statement() -> None:
    statement = probe_statement([replace(REQUEST, pings=("metrics", "baseline"))], SourceOptions(), 150)
    assert re.findall(r"\bmetrics\.[\w.]+", statement.sql) == [f"metrics.timing_distribution.{TIMING}.values"] * 2


def test_every_value_is_a_parameter_and_every_place_is_filled() -> None:
    statement = probe_statement([COUNTER_REQUEST], SourceOptions(), 150)
    assert set(re.findall(r"@(\w+)", statement.sql)) == {parameter.name for parameter in statement.parameters}
    assert "{{" not in statement.sql
    assert "nightly" not in statement.sql
    assert "submission_timestamp >= @since" in render("read", of_channel="TRUE")


def test_a_statements_digest_follows_its_text_and_its_parameters() -> None:
    options = SourceOptions()
    one, same = (probe_statement([REQUEST], options, 150) for _ in range(2))
    assert one.digest() == same.digest()
    assert one.digest() != probe_statement([REQUEST], options, 149).digest()
    other = replace(REQUEST, probe="other")
    assert one.digest() != probe_statement([other], options, 150).digest()
