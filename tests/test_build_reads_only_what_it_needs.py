"""A build pays for the probe's own column, the columns that every probe needs, and the days of its window."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from builder.compute import BuildRequest, ComputeOptions, compute_probe
from builder.probe import ANY, ClientGroup, Combination
from builder.sample_counts import SampleCounts
from builder.source import SourceOptions, probe_statement
from builder.statement import template
from builder.thresholds import Minimum, Thresholds
from tests.googlesql import COUNTER, TIMING
from tests.ping_makers import RUN_DATE, random_pings
from tests.ping_warehouse import BYTES_A_CELL, warehouse

REQUEST = BuildRequest(UUID(int=9), "fog", "nightly", TIMING, "timing_distribution", ("metrics",), RUN_DATE, 150)
COUNTER_REQUEST = replace(REQUEST, probe=COUNTER, metric_type="counter")
ALL_CLIENTS = ComputeOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
FIXED_COLUMNS = 8
OWN_COLUMNS = {"timing_distribution": 2, "counter": 1}
STATEMENTS = {"timing_distribution": 1, "counter": 2}


@pytest.mark.parametrize("request_of", [REQUEST, COUNTER_REQUEST], ids=lambda request: request.metric_type)
def test_the_bytes_are_those_of_its_columns_and_days(tmp_path: Path, request_of: BuildRequest) -> None:
    pings = random_pings(3, 300)
    first = RUN_DATE - timedelta(days=365)
    read = [p for p in pings if p.ping_type == "metrics" and first <= p.submitted.date() <= RUN_DATE]
    with warehouse(tmp_path / "pings.duckdb", pings) as client:
        built = compute_probe(client, request_of, ALL_CLIENTS, lambda *_: None)
    kind = request_of.metric_type
    once = len(read) * (FIXED_COLUMNS + OWN_COLUMNS[kind]) * BYTES_A_CELL
    assert len(read) < len(pings)
    assert built.bytes_processed == once * STATEMENTS[kind]
    assert len(built.job_ids) == STATEMENTS[kind]


@pytest.mark.parametrize("request_of", [REQUEST, COUNTER_REQUEST], ids=lambda request: request.metric_type)
def test_progress_names_its_stages_and_only_rises(tmp_path: Path, request_of: BuildRequest) -> None:
    told: list[tuple[str, int, int]] = []
    with warehouse(tmp_path / "pings.duckdb", random_pings(3, 300)) as client:
        request = replace(request_of, latest_version=None)
        built = compute_probe(client, request, ALL_CLIENTS, lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    middle = ["finding_range"] if request_of is COUNTER_REQUEST else []
    assert stages == ["finding_version", *middle, "aggregating", "statistics"]
    assert [step[1:] for step in told] == sorted(step[1:] for step in told)
    assert told[-1][2] == built.bytes_processed


def test_no_other_metric_is_named_in_a_statement() -> None:
    statement = probe_statement("distribution", replace(REQUEST, pings=("metrics", "baseline")), SourceOptions(), 150)
    assert re.findall(r"\bmetrics\.[\w.]+", statement.sql) == [f"metrics.timing_distribution.{TIMING}.values"] * 2


def test_every_value_is_a_parameter_and_every_place_is_filled() -> None:
    statement = probe_statement("scalar_counts", COUNTER_REQUEST, SourceOptions(), 150, [1.0])
    assert set(re.findall(r"@(\w+)", statement.sql)) == {parameter.name for parameter in statement.parameters}
    assert "{{" not in statement.sql
    assert "nightly" not in statement.sql
    assert "submission_timestamp >= @since" in template("pings")


def test_a_statements_digest_follows_its_text_and_its_parameters() -> None:
    options = SourceOptions()
    one, same = (probe_statement("distribution", REQUEST, options, 150) for _ in range(2))
    assert one.digest() == same.digest()
    assert one.digest() != probe_statement("distribution", REQUEST, options, 149).digest()
    other = replace(REQUEST, probe="other")
    assert one.digest() != probe_statement("distribution", other, options, 150).digest()


def test_a_group_counts_in_eight_combinations_and_in_fewer_where_something_is_missing() -> None:
    group = ClientGroup(150, "metrics", "Linux", "2026110109")
    assert len(set(group.roll_ups(by_build=True))) == 8
    assert {combination.build_hour for combination in group.roll_ups(by_build=False)} == {ANY}
    assert {combination.os for combination in group._replace(os=None).roll_ups(by_build=True)} == {ANY}


def test_samples_are_counted_over_all_ping_types() -> None:
    counts = SampleCounts(windows_weight=10)
    counts.add(ClientGroup(150, "metrics", "Linux", "2026110109"), 3)
    counts.add(ClientGroup(150, "baseline", "Linux", "2026110109"), 4)
    counts.add(ClientGroup(150, "metrics", "Windows", "2026110210"), 5)
    assert counts.total(Combination(150, "baseline", "Linux", ANY)) == 7
    assert counts.total(Combination(150, "metrics", ANY, "2026110109")) == 7
    assert counts.total(Combination(150, ANY, ANY, ANY)) == 120
