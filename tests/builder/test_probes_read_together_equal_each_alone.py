"""Probes that are read in one job have the rows of each built alone, and what all pings have is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, aggregate_probe, aggregate_probes
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest, BuiltProbes
from builder.aggregates.source import Reading, SourceOptions, probe_statement
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.aggregates.together import aggregate_together, read_alike
from tests.support.googlesql import PROBES
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse

SOURCE = SourceOptions(thresholds=Thresholds({}, Minimum(0, 0)), sampled_channels={"release": 10})
OPTIONS = AggregateOptions(SOURCE)
CHANGED = "changed"  # a column of another type in the tests' pings
DEFINITION = Definition("exponential", 1, 90, 12)


def request_of(
    metric_type: str, probe: str, channel: str = "nightly", definition: Definition = DEFINITION
) -> BuildRequest:
    pings = ("metrics", "baseline")
    return BuildRequest(uuid4(), "fog", channel, probe, metric_type, pings, RUN_DATE, 150, definition)


CHANNELS = {"nightly": tuple(PROBES), "release": ("counter", "quantity", "labeled_boolean")}
REQUESTS = [
    request_of(metric_type, PROBES[metric_type], channel)
    for channel, metric_types in CHANNELS.items()
    for metric_type in metric_types
] + [request_of("labeled_counter", PROBES["labeled_counter"], definition=Definition(labels=("a", "b")))]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    pings = [ping for channel in ("nightly", "release") for ping in random_pings(21, 120, channel)]
    with warehouse(tmp_path_factory.mktemp("together") / "pings.duckdb", pings) as client:
        yield client


def together(client: bigquery.Client, job: UUID, requests: Sequence[BuildRequest]) -> BuiltProbes:
    return aggregate_probes(client, job, requests, OPTIONS, lambda *_: None)


def test_each_has_the_rows_that_it_has_alone(client: bigquery.Client) -> None:
    groups = read_alike(REQUESTS, SOURCE)
    assert max(map(len, groups)) > 2
    seen, common = 0, set[tuple[str, int, int]]()
    for group in groups:
        built = together(client, uuid4(), group)
        alone = [aggregate_probe(client, request, OPTIONS, lambda *_: None) for request in group]
        assert [list(rows) for rows in built.rows] == [list(one.rows) for one in alone]
        assert len(built.job_ids) == len(alone[0].job_ids)
        if len(group) > 1:
            saved = sum(one.bytes_processed for one in alone) - built.bytes_processed
            common.add((group[0].channel, len(built.job_ids), saved // (len(group) - 1)))
        seen += sum(len(rows) for rows in built.rows)
    assert seen > 500
    # What is saved is the common columns, but for one of the probes: as much whatever the probes are.
    assert sorted(statements for channel, statements, _ in common if channel == "nightly") == [1, 2]
    assert all(saved > 0 for _, _, saved in common)


def test_common_columns_are_named_once_and_every_own_column_is(client: bigquery.Client) -> None:
    group = read_alike([request_of("counter", f"probe_{number}") for number in range(40)], SOURCE)[0]
    sql = probe_statement("scalar_ranges", group, SOURCE, 150).sql
    one = probe_statement("scalar_ranges", group[:1], SOURCE, 150).sql
    assert sql.count("client_info.client_id") == one.count("client_info.client_id")
    for request in group:
        assert sql.count(f"metrics.counter.{request.probe} ") == one.count("metrics.counter.probe_0 ")


def test_what_differs_in_what_is_read_is_apart() -> None:
    request = request_of("counter", "a")
    others = [
        replace(request, product="fenix"),
        replace(request, channel="beta"),
        replace(request, pings=("metrics",)),
        replace(request, latest_version=149),
        replace(request, metric_type="boolean"),
        replace(request, metric_type="labeled_counter"),
    ]
    assert [len(group) for group in read_alike([request, *others], SOURCE)] == [1] * 7
    same = [replace(request, probe="b"), replace(request, metric_type="quantity", probe="c")]
    assert [len(group) for group in read_alike([request, *same], SOURCE)] == [3]
    assert [len(group) for group in read_alike([request, *same], SOURCE, most=2)] == [2, 1]
    assert Reading.of(request, SOURCE) != Reading.of(replace(request, channel="release"), SOURCE)


def test_one_that_breaks_is_alone_and_the_others_are_there(client: bigquery.Client) -> None:
    broken = request_of("timing_distribution", CHANGED)
    good = [request_of(kind, PROBES[kind]) for kind in ("timing_distribution", "memory_distribution")]
    unknown = request_of("memory_distribution", "gone")
    [group] = read_alike([good[0], broken, good[1], unknown], SOURCE)
    done = list(aggregate_together(partial(together, client), uuid4(), group))
    failed = [one.requests[0] for one in done if one.error]
    built = {
        request.probe: list(rows)
        for one in done
        if one.built
        for request, rows in zip(one.requests, one.built.rows, strict=True)
    }
    assert failed == [broken, unknown]
    for request in good:
        assert built[request.probe] == list(aggregate_probe(client, request, OPTIONS, lambda *_: None).rows)


def test_what_is_never_built_is_alone_and_says_why(client: bigquery.Client) -> None:
    never = request_of("event", "an_event")
    groups = read_alike([request_of("counter", PROBES["counter"]), never], SOURCE)
    assert [len(group) for group in groups] == [1, 1]
    [told] = aggregate_together(partial(together, client), uuid4(), [never])
    assert told.error
    assert "an_event is a event" in str(told.error)
