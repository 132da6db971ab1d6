"""Odd values in pings and definitions give the right rows, or an error that says what is wrong."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import (
    AggregateOptions,
    BuildRequest,
    ProbeRow,
    aggregate_probe,
    aggregate_probes,
)
from builder.aggregates.cells import read_cells
from builder.aggregates.definition import Definition
from builder.aggregates.metric_shapes import SHAPES
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.aggregates.together import read_alike
from tests.builder.build_steps import page_of
from tests.support.glam_today_reference import Ping
from tests.support.googlesql import PROBES
from tests.support.ping_makers import RUN_DATE
from tests.support.ping_warehouse import warehouse
from usage_service.shared.bigquery.errors import PermanentWorkError

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MANY = tuple((f"label_{number}", number) for number in range(10_000))
HUGE = 2**63 - 1
ODD = ("it's", '"quoted"', "a,b|c", "back\\slash", "nul\0", "nul\\x00", "x" * 300, "\U0001f98a", "")
EXPONENTIAL = Definition("exponential", 1, 2**40, 1_000_000)
REQUEST = BuildRequest(uuid4(), "fog", "nightly", "", "", ("metrics",), RUN_DATE, 150)


def sent(channel: str, metric_type: str, *values: object) -> list[Ping]:
    """Return a ping for each value, of a client of its own."""
    ping = Ping(None, NOON, app_channel=channel)
    return [replace(ping, client_id=f"client-{i}", sent={metric_type: value}) for i, value in enumerate(values)]


CASES = [
    *sent("one", "counter", 7),
    *sent("equal", "quantity", *[1] * 5),
    *sent("huge", "counter", HUGE, -HUGE, -5, 2**40, 3),
    *(replace(ping, client_id="the same") for ping in sent("overflow", "counter", HUGE, HUGE, -HUGE)),
    *sent("overflow", "timing_distribution", (("5", HUGE), ("5", HUGE), ("7", 1))),
    *sent("labels", "labeled_counter", *[tuple((label, 4) for label in ODD)] * 2),
    *sent("many", "labeled_counter", MANY, *[MANY[:3]] * 4),
    *sent("odd buckets", "timing_distribution", *[(("7", 2), ("7\0 1 1 8", 1), ("7 8", 1), ("", 1), ("x", 1))] * 2),
    *sent("million", "custom_distribution", *[(("1", 1),)] * 3),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("sent") / "pings.duckdb", CASES) as client:
        yield client


def request_of(channel: str, metric_type: str, definition: Definition | None = None) -> BuildRequest:
    return replace(
        REQUEST,
        build_id=uuid4(),
        channel=channel,
        metric_type=metric_type,
        probe=PROBES[metric_type],
        definition=definition or Definition(),
    )


def options_of(more_users_than: int) -> AggregateOptions:
    return AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, more_users_than))))


def rows(client: bigquery.Client, request: BuildRequest, more_users_than: int = 0) -> list[ProbeRow]:
    """Return the rows over all systems, builds and pings."""
    built = list(aggregate_probe(client, request, options_of(more_users_than), lambda *_: None).rows)
    return [row for row in built if (row.ping_type, row.os, row.app_build_id) == ("*", "*", "*")]


def test_one_client(client: bigquery.Client) -> None:
    built = rows(client, request_of("one", "counter"))
    assert {row.client_agg_type: row.total_users for row in built} == dict.fromkeys(
        ["avg", "count", "max", "min", "sum"], 1
    )


def test_equal_values_have_no_buckets(client: bigquery.Client) -> None:
    for row in rows(client, request_of("equal", "quantity")):
        assert (row.histogram, row.percentiles, row.total_users) == ("{}", "{}", 5)


def test_values_outside_0_to_2_40_are_left_out_each_on_its_own(client: bigquery.Client) -> None:
    built = {row.client_agg_type: row for row in rows(client, request_of("huge", "counter"))}
    assert {agg: row.total_users for agg, row in built.items()} == {"max": 2, "min": 2, "sum": 2, "avg": 2, "count": 5}
    assert json.loads(built["max"].percentiles)["99"] == pytest.approx(2**40, rel=0.3)


def test_sums_that_overflow_64_bits_are_left_out_and_others_are_exact(client: bigquery.Client) -> None:
    assert [row.client_agg_type for row in rows(client, request_of("overflow", "counter"))] == ["count"]
    [row] = rows(client, request_of("overflow", "timing_distribution"))
    assert (row.total_users, row.total_sample) == (1, 1)
    assert list(json.loads(row.non_norm_histogram).items())[-1] == ("7", 1)


def test_labels_are_kept_as_they_are_but_for_nul_and_length(client: bigquery.Client) -> None:
    built = rows(client, request_of("labels", "labeled_counter"))
    expected = {"it's", '"quoted"', "a,b|c", "back\\slash", "nul", "x" * 200, "\U0001f98a", ""}
    assert {row.metric_key for row in built} == expected
    assert {row.total_users for row in built} == {2}


def test_labels_with_quotes_are_buckets_too(client: bigquery.Client) -> None:
    [row] = rows(client, request_of("labels", "labeled_counter", Definition(labels=("it's",))))
    assert list(json.loads(row.non_norm_histogram)) == sorted({*ODD[:4], "nul", "x" * 200, "\U0001f98a", ""})
    assert (row.metric_key, row.percentiles, row.non_norm_percentiles) == ("", "{}", "{}")


def test_buckets_that_are_no_numbers_are_not_shown_and_break_nothing(client: bigquery.Client) -> None:
    [row] = rows(client, request_of("odd buckets", "timing_distribution"))
    assert {key: count for key, count in json.loads(row.non_norm_histogram).items() if count} == {"7": 4}
    assert (row.total_users, row.total_sample) == (2, 12)


def test_of_ten_thousand_labels_those_with_enough_clients_are_shown(client: bigquery.Client) -> None:
    built = rows(client, request_of("many", "labeled_counter"), more_users_than=4)
    assert {row.metric_key for row in built} == {"label_0", "label_1", "label_2"}
    assert len(built) == 15


def test_a_million_buckets_are_cut_to_ten_thousand_as_upstream_does(client: bigquery.Client) -> None:
    [row] = rows(client, request_of("million", "custom_distribution", EXPONENTIAL))
    histogram = json.loads(row.histogram)
    assert row.metric_type == "custom_distribution_exponential"
    assert (len(histogram), histogram["1"], row.total_users) == (10_000, 0.75, 3)


def test_an_empty_table_gives_no_rows(client: bigquery.Client) -> None:
    """Probes of any type: those that are read alike, in one job."""
    options = options_of(0)
    requests = [replace(request_of("beta", metric_type, EXPONENTIAL), product="fenix") for metric_type in SHAPES]
    for alike in read_alike(requests, options.source):
        built = aggregate_probes(client, uuid4(), alike, options, lambda *_: None)
        found = [one if isinstance(one, PermanentWorkError) else list(one) for one in built]
        assert found == [[]] * len(alike)


@pytest.mark.parametrize("metric_type", ["counter", "labeled_counter"])
@pytest.mark.parametrize("probe", ["nothing", "changed"])
def test_a_column_that_is_gone_or_of_another_type_is_named(
    client: bigquery.Client, metric_type: str, probe: str
) -> None:
    with pytest.raises(PermanentWorkError, match=r"nothing|signature|arrays") as refused:
        rows(client, replace(request_of("one", metric_type), probe=probe))
    assert refused.value.code == "invalidQuery"


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (Definition(), "register the probe with histogram_type, range_min, range_max, bucket_count"),
        (Definition("linear", 0, 100), "register the probe with bucket_count"),
        (Definition("quadratic", 0, 100, 10), "must be one of exponential, linear"),
        (Definition("linear", 100, 100, 10), "range_min must be below range_max"),
        (Definition("exponential", -1, 100, 10), "range_min must be below range_max"),
        (Definition("linear", 0, 100, 2), "at least 3"),
    ],
)
@pytest.mark.parametrize("metric_type", ["custom_distribution", "labeled_custom_distribution"])
def test_a_custom_distribution_needs_its_definition_before_anything_is_read(
    client: bigquery.Client, metric_type: str, definition: Definition, message: str
) -> None:
    request = request_of("million", metric_type, definition)
    with pytest.raises(PermanentWorkError, match=message) as refused:
        rows(client, request)
    assert refused.value.code == "invalidDefinition"
    assert not [job for job in client.list_jobs() if request.build_id.hex in str(job.job_id)]


@pytest.mark.parametrize(("product_", "channel"), [("fenix", "esr"), ("focus", "nightly")])
def test_a_channel_without_a_dataset_is_named(client: bigquery.Client, product_: str, channel: str) -> None:
    with pytest.raises(PermanentWorkError, match=f"'{product_}' on '{channel}'"):
        rows(client, replace(request_of(channel, "counter"), product=product_))


def test_more_cells_than_fit_are_refused() -> None:
    cell = {
        "probe": 0,
        "version": 1,
        "ping_type": "*",
        "os": "*",
        "build_hour": "*",
        "metric_key": "",
        "client_agg_type": "",
    }
    cell |= {"users": 2, "samples": 2, "weighted": False, "cells": [("1", 1, 1), ("2", 1, 1)]}
    with pytest.raises(PermanentWorkError, match="more than 3 values"):
        read_cells([page_of([cell] * 2)] * 2, most=3)
