"""A probe built through BigQuery's client and the embedded warehouse equals the brute force over the raw pings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from builder.compute import BuildRequest, ComputeOptions, compute_probe
from builder.source import SourceOptions
from builder.thresholds import Minimum, Thresholds
from tests.built_rows import as_rows
from tests.googlesql import COUNTER, TIMING
from tests.ping_makers import RUN_DATE, random_pings
from tests.ping_warehouse import warehouse
from tests.reference_statistics import Ping, Question, Rows, reference_rows

PROBES = {"counter": COUNTER, "timing_distribution": TIMING}


def built_rows(directory: Path, pings: Sequence[Ping], question: Question) -> Rows:
    request = BuildRequest(
        uuid4(),
        "fog",
        question.channel,
        PROBES[question.metric_type],
        question.metric_type,
        ("metrics", "baseline"),
        question.run_date,
        question.latest_version,
    )
    source = SourceOptions(
        thresholds=Thresholds({}, Minimum(question.more_clients_than, question.more_users_than)),
        sampled_by_clients=frozenset(PROBES.values()) if question.sampled_by_clients else frozenset(),
    )
    with warehouse(directory / "pings.duckdb", pings) as client:
        return as_rows(compute_probe(client, request, ComputeOptions(source), lambda *_: None).rows)


@pytest.mark.parametrize("metric_type", PROBES)
@pytest.mark.parametrize("channel", ["nightly", "release"])
@pytest.mark.parametrize("seed", range(2))
def test_random_pings_give_the_same_rows(tmp_path: Path, seed: int, channel: str, metric_type: str) -> None:
    pings = random_pings(seed, count=900, channel=channel, clients=40)
    question = Question(metric_type, RUN_DATE, channel, more_clients_than=15, more_users_than=8)
    expected = reference_rows(pings, question)
    assert built_rows(tmp_path, pings, question) == expected
    assert len(expected) > 30


@pytest.mark.parametrize("metric_type", PROBES)
def test_the_latest_version_is_found_in_the_pings(tmp_path: Path, metric_type: str) -> None:
    pings = [ping for ping in random_pings(5, count=500) if ping.display_version != "151.0"]
    few = [replace(ping, display_version="152.0") for ping in pings if ping.client_id in {"client-1", "client-2"}]
    question = Question(metric_type, RUN_DATE, latest_version=None, more_users_than=3)
    rows = built_rows(tmp_path, [*pings, *few], question)
    assert rows == reference_rows([*pings, *few], question)
    assert {version for version, *_ in rows} == {148, 149, 150}


@pytest.mark.parametrize("metric_type", PROBES)
def test_a_probe_that_clients_sample_keeps_all_of_them(tmp_path: Path, metric_type: str) -> None:
    pings = random_pings(6, count=120, channel="release")
    question = Question(metric_type, RUN_DATE, "release", sampled_by_clients=True)
    expected = reference_rows(pings, question)
    assert built_rows(tmp_path, pings, question) == expected
    assert expected != reference_rows(pings, replace(question, sampled_by_clients=False))
