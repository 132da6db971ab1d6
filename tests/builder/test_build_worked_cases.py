"""The two worked cases of the specification, from raw pings to rows; and which clients each row counts."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from google.cloud.bigquery import Client

from builder.aggregates.aggregating import AggregateOptions, BuildRequest, BuiltProbe, ProbeRow, aggregate_probe
from builder.aggregates.cells import read_cells
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.scalar_ranges import scalar_bucket_list
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.errors import UnsupportedMetricError
from tests.builder.build_steps import page_of
from tests.support.glam_today_reference import Ping
from tests.support.googlesql import COUNTER, TIMING
from tests.support.ping_makers import RUN_DATE
from tests.support.ping_warehouse import warehouse
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.jobs import make_client
from usage_service.shared.bigquery.statement import Statement

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BUILD = "2026110109"
BOTH = {"timing_distribution": (("1", 1),), "counter": 3}
SENT = Ping(None, NOON, sent=BOTH)
REQUEST = BuildRequest(UUID(int=3), "fog", "nightly", TIMING, "timing_distribution", ("metrics",), RUN_DATE, 150)
COUNTER_REQUEST = replace(REQUEST, probe=COUNTER, metric_type="counter")


def clients(count: int, like: Ping, first: int = 0) -> list[Ping]:
    """Return the ping as each of the clients would send it."""
    return [replace(like, client_id=f"client-{number}") for number in range(first, first + count)]


def build(directory: Path, pings: Sequence[Ping], request: BuildRequest, minimum: Minimum | None = None) -> BuiltProbe:
    thresholds = Thresholds({}, minimum) if minimum else Thresholds()
    options = AggregateOptions(SourceOptions(thresholds=thresholds))
    with warehouse(directory / "pings.duckdb", pings) as client:
        return aggregate_probe(client, request, options, lambda *_: None)


def row_of(built: BuiltProbe, os: str = "*", app_build_id: str = "*", agg: str | None = None) -> ProbeRow:
    found = [
        row
        for row in built.rows
        if (row.ping_type, row.os, row.app_build_id) == ("*", os, app_build_id) and agg in (None, row.client_agg_type)
    ]
    assert len(found) == 1
    return found[0]


def test_the_statement_is_told_before_it_runs(tmp_path: Path) -> None:
    told: list[tuple[Sequence[UUID], Statement]] = []
    options = AggregateOptions(note=lambda builds, statement: told.append((builds, statement)))
    with warehouse(tmp_path / "pings.duckdb", clients(900, SENT)) as client:
        built = aggregate_probe(client, REQUEST, options, lambda *_: None)
    [(builds, statement)] = told
    assert builds == [REQUEST.build_id]
    assert TIMING in statement.sql
    assert statement.digest() in built.job_ids[-1]


def test_900_clients_of_a_timing_distribution(tmp_path: Path) -> None:
    built = build(tmp_path, clients(900, Ping(None, NOON, sent={"timing_distribution": (("1", 1), ("2", 0))})), REQUEST)
    assert len(built.rows) == 8
    for row in built.rows:
        assert row.histogram == '{"0":0.0004,"1":0.9993,"2":0.0004}'
        assert set(json.loads(row.percentiles).values()) == {1}
        assert list(json.loads(row.percentiles)) == ["0.1", "1", "5", "25", "50", "75", "95", "99", "99.9"]
        assert row.non_norm_histogram == '{"0":0,"1":900,"2":0}'
        assert (row.total_users, row.total_sample) == (900, 900)
        assert (row.metric_type, row.metric_key, row.client_agg_type) == ("timing_distribution", "", "summed_histogram")
    assert {row.build_date for row in built.rows if row.app_build_id == BUILD} == {datetime(2026, 11, 1, 9, tzinfo=UTC)}
    assert {row.build_date for row in built.rows if row.app_build_id == "*"} == {None}


def test_900_clients_of_a_counter_whose_values_are_all_equal(tmp_path: Path) -> None:
    """Each client sends the value 1 once, so that max, min, avg, sum and count are all 1."""
    built = build(tmp_path, clients(900, Ping(None, NOON, sent={"counter": 1})), COUNTER_REQUEST)
    assert len(built.rows) == 8 * 5
    for row in built.rows:
        assert (row.histogram, row.percentiles, row.non_norm_histogram, row.non_norm_percentiles) == ("{}",) * 4
        assert (row.total_users, row.total_sample) == (900, 900)


def test_900_clients_whose_every_aggregate_is_4() -> None:
    """No pings give this, since a counter of 4 that is sent once has a count of 1: so the case starts after the SQL."""
    of_all = {"probe": 0, "version": None, "metric_key": "", "cells": [(0, 4.0, 0), (1, 4.0, 0)]}
    about = {
        "probe": 0,
        "version": 150,
        "ping_type": "*",
        "os": "*",
        "build_hour": "*",
        "metric_key": "",
        "client_agg_type": "max",
    }
    cell = {"users": 900, "samples": 3600, "weighted": False, "cells": [(0, 900, 3600)]}
    cells = read_cells([page_of([about | cell, of_all])])
    buckets = scalar_bucket_list(*cells.ranges[""])
    [row] = ProbeRows(cells, Layout("counter", lambda _: buckets, np.array([-1]), raw=False), 1, None)
    assert buckets.keys == ()
    assert (row.histogram, row.percentiles, row.total_users, row.total_sample) == ("{}", "{}", 900, 3600)


def test_a_counter_of_4_that_is_sent_once_ranges_from_its_count_to_4(tmp_path: Path) -> None:
    built = build(tmp_path, clients(900, Ping(None, NOON, sent={"counter": 4})), COUNTER_REQUEST)
    assert {row.total_users for row in built.rows} == {900}
    medians = {row.client_agg_type: json.loads(row.percentiles)["50"] for row in built.rows}
    assert medians == {"max": 3.94, "min": 3.94, "avg": 3.94, "sum": 3.94, "count": 1}


def test_too_few_clients_give_no_row_and_no_error(tmp_path: Path) -> None:
    assert len(build(tmp_path, clients(10, SENT), REQUEST).rows) == 0


def test_a_probe_that_nobody_sent_gives_no_row_and_no_error(tmp_path: Path) -> None:
    assert len(build(tmp_path, clients(900, Ping(None, NOON)), COUNTER_REQUEST).rows) == 0


@pytest.mark.parametrize("request_of", [REQUEST, COUNTER_REQUEST], ids=["distribution", "scalar"])
def test_a_small_build_counts_in_the_roll_up_of_distributions_only(tmp_path: Path, request_of: BuildRequest) -> None:
    other = replace(SENT, app_build="20261102100000")
    pings = clients(60, SENT) + clients(20, other, first=100)
    built = build(tmp_path, pings, request_of)
    assert {row.app_build_id for row in built.rows} == {"*", BUILD}
    users = {row.total_users for row in built.rows if row.app_build_id == "*"}
    assert users == ({80} if request_of is REQUEST else {60})


def test_clients_without_the_probe_make_a_build_large_enough(tmp_path: Path) -> None:
    built = build(tmp_path, clients(15, SENT) + clients(60, Ping(None, NOON), first=100), COUNTER_REQUEST)
    assert row_of(built, app_build_id=BUILD, agg="max").total_users == 15


def test_a_client_on_three_builds_weighs_three_in_a_distribution_and_one_in_a_scalar(tmp_path: Path) -> None:
    builds = ("20261101093000", "20261102093000", "20261103093000")
    pings = [ping for app_build in builds for ping in clients(60, replace(SENT, app_build=app_build))]
    assert row_of(build(tmp_path, pings, REQUEST)).total_users == 180
    (tmp_path / "pings.duckdb").unlink()
    assert row_of(build(tmp_path, pings, COUNTER_REQUEST), agg="max").total_users == 60


def test_a_windows_client_on_release_stands_for_ten(tmp_path: Path) -> None:
    request = replace(COUNTER_REQUEST, channel="release")
    linux = replace(SENT, app_channel="release", display_version="150.0")
    windows = replace(linux, os="Windows", sample_id=9)
    pings = clients(5, windows) + clients(9, replace(windows, sample_id=10), first=20) + clients(3, linux, first=40)
    built = build(tmp_path, pings, request, Minimum(0, 0))
    assert [row_of(built, os=os, agg="max").total_users for os in ("Windows", "Linux", "*")] == [50, 3, 53]
    assert [row_of(built, os=os, agg="sum").total_sample for os in ("Windows", "Linux", "*")] == [50, 3, 80]


@pytest.fixture(scope="module")
def unasked() -> Iterator[Client]:
    """Yield a client of nobody: what is refused before any statement needs no warehouse."""
    with closing(make_client("local-project", "http://127.0.0.1:1", "US")) as client:
        yield client


def test_a_type_that_is_not_built_is_named(unasked: Client) -> None:
    with pytest.raises(UnsupportedMetricError, match="string_list"):
        aggregate_probe(unasked, replace(REQUEST, metric_type="string_list"), AggregateOptions(), lambda *_: None)


@pytest.mark.parametrize("probe", ["a; DROP TABLE x", "a`b", "a.b", "Ä", "", "x" * 256, "a\n"])
def test_a_name_that_is_none_never_gets_into_a_statement(unasked: Client, probe: str) -> None:
    with pytest.raises(PermanentWorkError, match="cannot be the name"):
        aggregate_probe(unasked, replace(COUNTER_REQUEST, probe=probe), AggregateOptions(), lambda *_: None)
