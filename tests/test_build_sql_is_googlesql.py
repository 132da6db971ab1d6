"""Every statement that a build can run is valid GoogleSQL for the real column types, and Google's own reference
engine computes from it what the specification says."""

import importlib.util
from collections.abc import Iterable, Sequence
from uuid import UUID

import pytest

from builder.distribution import DistributionTable
from builder.metric_shapes import SHAPES
from builder.probe import BuildRequest, ProbeRow
from builder.scalar import ScalarRange, ScalarTable
from builder.source import SourceOptions, latest_version_statement, probe_statement
from builder.thresholds import Minimum, Thresholds
from tests.built_rows import as_rows
from tests.googlesql import COUNTER, TIMING, GoogleSql
from tests.ping_makers import RUN_DATE, random_pings
from tests.reference_statistics import Ping, Question, reference_rows

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("zetasql"), reason="zetasql cannot be imported here"),
    pytest.mark.timeout(300),  # the first run on a machine compiles the engine
]

OPTIONS = SourceOptions(thresholds=Thresholds({}, Minimum(6, 4)))


def request_for(metric_type: str, channel: str = "nightly") -> BuildRequest:
    probe = {"counter": COUNTER, "timing_distribution": TIMING}[metric_type]
    return BuildRequest(UUID(int=7), "fog", channel, probe, metric_type, ("metrics", "baseline"), RUN_DATE, 150)


@pytest.fixture(scope="module")
def googlesql() -> GoogleSql:
    return GoogleSql()


@pytest.mark.parametrize(
    ("name", "metric_type", "columns"),
    [
        (
            "distribution",
            "timing_distribution",
            "version ping_type os build_hour large_enough bucket share samples",
        ),
        ("scalar_range", "counter", "version os build_hour smallest largest samples"),
        ("scalar_counts", "counter", "version ping_type os build_hour client_agg_type bucket clients"),
    ],
)
def test_each_statement_type_checks(googlesql: GoogleSql, name: str, metric_type: str, columns: str) -> None:
    buckets = [1.0, 2.5] if name == "scalar_counts" else None
    statement = probe_statement(name, request_for(metric_type), OPTIONS, 150, buckets)
    assert googlesql.columns(statement) == columns.split()


def test_every_metric_type_has_a_statement_that_is_checked_here() -> None:
    assert set(SHAPES) == {"counter", "timing_distribution"}


def test_the_search_for_the_latest_version_type_checks(googlesql: GoogleSql) -> None:
    assert googlesql.columns(latest_version_statement(request_for("counter"), OPTIONS)) == ["version"]


@pytest.mark.parametrize("channel", ["nightly", "release"])
def test_the_reference_engine_gives_the_rows_of_a_distribution(googlesql: GoogleSql, channel: str) -> None:
    pings = random_pings(seed=11, count=300, channel=channel)
    request = request_for("timing_distribution", channel)
    sums = googlesql.evaluate(probe_statement("distribution", request, OPTIONS, 150), pings)
    weight = 10 if channel == "release" else 1
    table = DistributionTable(sums, SHAPES["timing_distribution"], weight)
    agree(table.rows("timing_distribution", 4), pings, "timing_distribution", channel)


@pytest.mark.parametrize("channel", ["nightly", "release"])
def test_the_reference_engine_gives_the_rows_of_a_scalar(googlesql: GoogleSql, channel: str) -> None:
    pings = random_pings(seed=12, count=150, channel=channel)
    request = request_for("counter", channel)
    weight = 10 if channel == "release" else 1
    known = ScalarRange(googlesql.evaluate(probe_statement("scalar_range", request, OPTIONS, 150), pings), weight)
    bounds = [float(bucket) for bucket in known.buckets]
    counts = googlesql.evaluate(probe_statement("scalar_counts", request, OPTIONS, 150, bounds), pings)
    agree(ScalarTable(counts, known, weight).rows("counter", 4), pings, "counter", channel)


def agree(rows: Iterable[ProbeRow], pings: Sequence[Ping], metric_type: str, channel: str) -> None:
    question = Question(metric_type, RUN_DATE, channel, more_clients_than=6, more_users_than=4)
    expected = reference_rows(pings, question)
    assert as_rows(rows) == expected
    assert len(expected) >= 20
