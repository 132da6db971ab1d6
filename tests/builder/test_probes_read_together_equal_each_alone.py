"""Probes that are read in one job have the rows of each built alone, and what all pings have is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, Progress, aggregate_probe, aggregate_probes
from builder.aggregates.cells import Cells, cells_by_probe
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest, BuiltTogether, Rows
from builder.aggregates.source import Reading, SourceOptions, probe_statement
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.aggregates.together import read_alike
from builder.nights import rehearsal
from builder.nights.rehearsal import rehearse
from tests.builder.build_steps import page_of
from tests.support.googlesql import PROBES
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.pages import Page

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
    pings = [ping for channel in ("nightly", "release") for ping in random_pings(21, 40, channel)]
    with warehouse(tmp_path_factory.mktemp("together") / "pings.duckdb", pings) as client:
        yield client


def together(client: bigquery.Client, job: UUID, requests: Sequence[BuildRequest]) -> BuiltTogether:
    return aggregate_probes(client, job, requests, OPTIONS, lambda *_: None)


def rows_of(built: Rows | PermanentWorkError) -> Rows:
    assert not isinstance(built, PermanentWorkError), built
    return built


def test_each_has_the_rows_that_it_has_alone(client: bigquery.Client) -> None:
    groups = read_alike(REQUESTS, SOURCE)
    assert max(map(len, groups)) > 2
    seen, common = 0, set[tuple[str, int]]()
    for group in groups:
        built = together(client, uuid4(), group)
        alone = [aggregate_probe(client, request, OPTIONS, lambda *_: None) for request in group]
        assert len(built.job_ids) == 1  # known before the first probe's cells are fetched
        rows = [list(rows_of(one)) for one in built]
        assert rows == [list(one.rows) for one in alone]
        if len(group) > 1:
            saved = sum(one.bytes_processed for one in alone) - built.bytes_processed
            common.add((group[0].channel, saved // (len(group) - 1)))
        seen += sum(map(len, rows))
    assert seen > 500
    # What is saved is the common columns, but for one of the probes: as much whatever the probes are.
    assert len(common) == len({group[0].channel for group in groups})
    assert all(saved > 0 for _, saved in common)


def test_common_columns_are_named_once_and_every_own_column_is(client: bigquery.Client) -> None:
    group = read_alike([request_of("counter", f"probe_{number}") for number in range(40)], SOURCE)[0]
    sql = probe_statement(group, SOURCE, 150).sql
    one = probe_statement(group[:1], SOURCE, 150).sql
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
    ]
    assert [len(group) for group in read_alike([request, *others], SOURCE)] == [1] * 6
    same = [replace(request, metric_type=kind) for kind in ("quantity", "labeled_counter", "dual_labeled_counter")]
    assert [len(group) for group in read_alike([request, *same], SOURCE)] == [4]
    assert [len(group) for group in read_alike([request, *same], SOURCE, most=3)] == [3, 1]
    assert Reading.of(request, SOURCE) != Reading.of(replace(request, channel="release"), SOURCE)


def test_one_that_breaks_is_alone_and_the_others_are_there(client: bigquery.Client) -> None:
    broken = request_of("timing_distribution", CHANGED)
    good = [request_of(kind, PROBES[kind]) for kind in ("timing_distribution", "memory_distribution")]
    unknown = request_of("memory_distribution", "gone")
    done = {
        request.probe: built
        for requests, together in rehearse(client, [good[0], broken, good[1], unknown], OPTIONS)
        for request, built in zip(requests, together, strict=True)
    }
    assert [probe for probe, built in done.items() if isinstance(built, PermanentWorkError)] == [CHANGED, "gone"]
    for request in good:
        alone = aggregate_probe(client, request, OPTIONS, lambda *_: None)
        assert list(rows_of(done[request.probe])) == list(alone.rows)


def test_a_job_that_fails_when_it_runs_is_done_in_halves(
    client: bigquery.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse's memory, for one, does not show in a dry run."""
    sizes = list[int]()

    def bounded(
        of: bigquery.Client, job: UUID, requests: Sequence[BuildRequest], options: AggregateOptions, progress: Progress
    ) -> BuiltTogether:
        sizes.append(len(requests))
        if len(requests) > 1:
            raise PermanentWorkError("resourcesExceeded", "out of memory")
        return aggregate_probes(of, job, requests, options, progress)

    monkeypatch.setattr(rehearsal, "aggregate_probes", bounded)
    kinds = ["timing_distribution", "memory_distribution", "timing_distribution"]
    requests = [request_of(kind, PROBES[kind]) for kind in kinds]
    for of, built in rehearse(client, requests, OPTIONS):
        alone = aggregate_probe(client, of[0], OPTIONS, lambda *_: None)
        assert [list(rows_of(one)) for one in built] == [list(alone.rows)]
    assert sizes == [3, 1, 2, 1, 1]


def test_one_that_cannot_be_laid_out_fails_alone_and_is_not_read(client: bigquery.Client) -> None:
    good = [request_of("custom_distribution", PROBES["custom_distribution"]) for _ in range(2)]
    undefined = request_of("custom_distribution", "gone", definition=Definition("exponential", 1, 90))
    alone = together(client, uuid4(), good[:1])
    built = together(client, uuid4(), [good[0], undefined, good[1]])
    first, error, last = built
    assert isinstance(error, PermanentWorkError)
    assert "register the probe with bucket_count" in str(error)
    [rows] = [list(rows_of(one)) for one in alone]
    assert list(rows_of(first)) == list(rows_of(last)) == rows
    assert rows
    assert (len(built.job_ids), built.bytes_processed) == (1, alone.bytes_processed)
    with pytest.raises(StopIteration):
        next(iter(built))


def row(probe: int, *buckets: str, version: int = 150) -> dict[str, Any]:
    about = {"ping_type": "*", "os": "*", "build_hour": "*", "metric_key": "", "client_agg_type": "", "weighted": False}
    cells = [(bucket, 1.0, 1) for bucket in buckets]
    return about | {"probe": probe, "version": version, "users": 1.0, "samples": 1, "cells": cells}


def test_one_with_too_many_cells_fails_alone() -> None:
    first, second = [row(1, "a"), row(3, "a", "b")], [row(3, "c", version=149), row(4, "a", "b")]
    found = list(cells_by_probe([page_of(first), page_of(second)], probes=6, most=2))
    assert [isinstance(one, PermanentWorkError) for one in found] == [False, False, False, True, False, False]
    assert [len(one.combinations) for one in found if isinstance(one, Cells)] == [0, 1, 0, 1, 0]
    assert [one.buckets for one in found if isinstance(one, Cells)] == [[], ["a"], [], ["a", "b"], []]


def test_cells_are_taken_as_their_probes_turn_comes() -> None:
    taken = list[int]()

    def pages() -> Iterator[Page]:
        for probe in range(4):
            taken.append(probe)
            yield page_of([row(probe, "a")])

    reading = cells_by_probe(pages(), probes=4)
    for probe in range(4):
        next(reading)
        assert taken[-1] <= probe + 1  # the next one's first shows that this one's are all there
    with pytest.raises(ValueError, match="the cells of probe 0 came after those of 1"):
        list(cells_by_probe([page_of(row(probe, "a") for probe in (1, 0, 2))], probes=3))


def test_what_is_never_built_is_alone_and_says_why(client: bigquery.Client) -> None:
    never = request_of("event", "an_event")
    groups = read_alike([request_of("counter", PROBES["counter"]), never], SOURCE)
    assert [len(group) for group in groups] == [1, 1]
    [(_, told)] = rehearse(client, [never], OPTIONS)
    [error] = told
    assert isinstance(error, PermanentWorkError)
    assert "an_event is a event" in str(error)
