"""The rows of unusual pings are those that GLAM's own templates make, or differ on purpose: each case has both."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import uuid4

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, BuildRequest, ProbeRow, aggregate_probe
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from tests.support.glam_today_reference import DATASETS, Ping
from tests.support.googlesql import GECKOVIEW_VERSIONS, PROBES
from tests.support.ping_makers import RUN_DATE, RUN_NOON
from tests.support.ping_warehouse import warehouse

EVERYBODY = AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
MIDNIGHT = datetime.combine(RUN_DATE, time(), tzinfo=UTC)


def sent(client_id: str, channel: str = "nightly", **value: object) -> Ping:
    return Ping(client_id, RUN_NOON, app_channel=channel, display_version="150.0", sent=value)


def built_at(channel: str, moment: datetime) -> Ping:
    return replace(sent(f"{moment:%d-%H}", channel, counter=1), app_build=f"{moment:%Y%m%d%H%M%S}")


def fenix(client_id: str, app_build: str, version: str, app_channel: str = "nightly") -> Ping:
    ping = sent(client_id, app_channel, counter=1)
    return replace(ping, dataset=DATASETS["nightly"], app_build=app_build, display_version=version)


BUCKETS = [
    sent("c1", "buckets", timing_distribution=(("1", 2**41), ("2", 4))),
    sent("c1", "buckets", timing_distribution=(("1", 3),)),
    sent("c2", "buckets", timing_distribution=(("1", -5), ("2", 4))),
    sent("c2", "buckets", timing_distribution=(("1", 10),)),
    sent("c3", "a day", timing_distribution=(("1", 2**40), ("2", 1))),
    sent("c3", "a day", timing_distribution=(("1", 1),)),
]
SCALARS = [
    *(sent(f"c{n}", "scalars", counter=value) for n, value in enumerate((100, 100, 200, 800)) for _ in range(4)),
    *(sent(f"c{n}", "close", counter=value) for n, value in enumerate((1, 1, 2))),
]
OLDEST, NEWEST = MIDNIGHT - timedelta(days=365), MIDNIGHT + timedelta(days=3)
HOUR = timedelta(hours=1)
WINDOW = [built_at("window", moment) for moment in (OLDEST, OLDEST + HOUR, NEWEST - HOUR, NEWEST)]
# By GECKOVIEW_VERSIONS, the first two hours are of 150 and 149, and the third is in no row.
FENIX = [
    fenix("a", "83030930", "Nightly 261030 09:30"),
    fenix("b", "83030930", "149.0a1", app_channel="beta"),
    fenix("c", "83162100", "150.0a1"),
    fenix("d", "83231000", "150.0a1"),
    *(fenix(f"more-{n}", "83162100", "151.0a1") for n in range(5)),
]
SYSTEMS = [
    replace(sent(f"{name} {channel}", channel, counter=1), os=name, display_version=version)
    for channel, version in (("release", "150.0"), ("release", "118.0"), ("beta", "150.0"))
    for name in ("Linux", None)
]

DAY = timedelta(days=1)
# What docs/statistics.md has in its table of rows that differ on purpose.
ON_PURPOSE = [
    *(replace(sent("c1", "no system", counter=1), os=None, submitted=RUN_NOON - n * DAY) for n in range(2)),
    *(sent(f"c{n}", "cleaned", labeled_counter=((label, 1),)) for n, label in enumerate(("a", "a\\x00"))),
    *(sent("c1", "a large day", counter=2**40) for _ in range(2)),
    *(replace(sent("c1", "large days", counter=2**40), submitted=RUN_NOON - n * DAY) for n in range(2)),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    pings = [*BUCKETS, *SCALARS, *WINDOW, *FENIX, *SYSTEMS, *ON_PURPOSE]
    with warehouse(tmp_path_factory.mktemp("today") / "pings.duckdb", pings) as client:
        yield client


def rows_of(
    client: bigquery.Client, channel: str, metric_type: str = "counter", product: str = "fog", latest: int | None = 150
) -> list[ProbeRow]:
    """Return the rows of all ping types."""
    probe = PROBES[metric_type]
    request = BuildRequest(uuid4(), product, channel, probe, metric_type, ("metrics",), RUN_DATE, latest)
    return [row for row in aggregate_probe(client, request, EVERYBODY, lambda *_: None).rows if row.ping_type == "*"]


def whole(rows: Sequence[ProbeRow], agg: str, version: int = 150) -> ProbeRow:
    """Return the row of all systems and builds."""
    [row] = [r for r in rows if (r.os, r.app_build_id, r.client_agg_type, r.version) == ("*", "*", agg, version)]
    return row


def test_an_entry_of_a_ping_counts_from_0_to_2_to_the_40th_and_so_does_a_day(client: bigquery.Client) -> None:
    row = whole(rows_of(client, "buckets", "timing_distribution"), "summed_histogram")
    assert json.loads(row.non_norm_histogram) == {"0": 0, "1": 13, "2": 8}
    assert (row.total_sample, row.total_users) == (21, 2)
    day = whole(rows_of(client, "a day", "timing_distribution"), "summed_histogram")
    assert json.loads(day.non_norm_histogram) == {"0": 0, "1": 0, "2": 1}


def test_the_buckets_of_a_scalar_begin_at_1_whatever_its_minimum(client: bigquery.Client) -> None:
    rows = rows_of(client, "scalars")
    keys = list(json.loads(whole(rows, "max").histogram))
    assert keys[:2] == ["1.00", "1.07"]
    assert keys[-1] == "748.27"
    # All of the largest bucket and above are in it.
    assert json.loads(whole(rows, "sum").histogram)["748.27"] == 0.402
    assert json.loads(whole(rows, "min").percentiles)["50"] == 94.21


def test_buckets_with_one_key_are_smoothed_as_if_they_were_two(client: bigquery.Client) -> None:
    histogram = json.loads(whole(rows_of(client, "close"), "max").histogram)
    assert histogram["1.00"] == 0.5025
    assert len(histogram) < 100


def test_the_window_of_builds_is_open_at_both_ends(client: bigquery.Client) -> None:
    builds = {row.app_build_id for row in rows_of(client, "window")}
    assert builds == {"*", f"{OLDEST + HOUR:%Y%m%d%H}", f"{NEWEST - HOUR:%Y%m%d%H}"}


def test_fenix_nightly_has_the_version_of_its_engine_by_the_hour_of_the_build(client: bigquery.Client) -> None:
    rows = rows_of(client, "nightly", product="fenix")
    assert {(row.version, row.app_build_id) for row in rows} == {
        (150, "*"),
        (150, "2026103009"),
        (149, "*"),
        (149, "2026111221"),
    }
    assert [whole(rows, "max", version).total_users for version in (150, 149)] == [2, 6]


def test_the_latest_version_of_fenix_nightly_is_one_of_its_engine(client: bigquery.Client) -> None:
    assert GECKOVIEW_VERSIONS["2026111221"] == 149  # which six clients run, and say 150 and 151
    assert {row.version for row in rows_of(client, "nightly", product="fenix", latest=None)} == {149}


@pytest.mark.parametrize(("channel", "version", "users"), [("release", 150, 1), ("release", 118, 1), ("beta", 150, 2)])
def test_where_windows_is_sampled_a_client_without_a_system_is_not_read(
    client: bigquery.Client, channel: str, version: int, users: int
) -> None:
    assert whole(rows_of(client, channel, latest=version), "max", version).total_users == users


def test_a_client_without_a_system_is_one_on_two_days_and_over_all_systems(client: bigquery.Client) -> None:
    rows = rows_of(client, "no system")
    assert {row.os for row in rows} == {"*"}
    assert whole(rows, "max").total_users == 1


def test_labels_that_are_equal_once_cleaned_are_one_row(client: bigquery.Client) -> None:
    row = whole(rows_of(client, "cleaned", "labeled_counter"), "max")
    assert (row.metric_key, row.total_users) == ("a", 2)


def test_a_day_whose_sum_passes_2_to_the_40th_has_no_average(client: bigquery.Client) -> None:
    """GLAM makes an average of 0 of a sum that it dropped and a count that it kept."""
    rows = rows_of(client, "a large day")
    assert {row.client_agg_type for row in rows} == {"max", "min", "count"}
    assert {row.total_users for row in rows} == {1}


def test_a_sum_of_days_may_pass_2_to_the_40th(client: bigquery.Client) -> None:
    rows = rows_of(client, "large days")
    assert {row.client_agg_type for row in rows} == {"max", "min", "sum", "avg", "count"}
    # The range is from the count, which is 2, to the sum: 2^((41 - 1) / 100 * 99).
    assert list(json.loads(whole(rows, "sum").histogram))[-1] == f"{2**39.6:.2f}"
