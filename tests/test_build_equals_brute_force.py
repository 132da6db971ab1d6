"""A probe built through BigQuery's client and the embedded warehouse equals the brute force over the raw pings.

SOAK_ROUNDS says how many sets of pings are tried.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest
from google.cloud import bigquery

from builder.compute import BuildRequest, ComputeOptions, compute_probe
from builder.definition import Definition
from builder.source import SourceOptions
from builder.thresholds import Minimum, Thresholds
from tests.built_rows import as_rows
from tests.googlesql import PROBES
from tests.ping_makers import DATASETS, LABELS, RUN_DATE, random_pings
from tests.ping_warehouse import warehouse
from tests.reference_statistics import Ping, Question, Rows, reference_rows

ROUNDS = int(os.environ.get("SOAK_ROUNDS") or 1)
BUCKETS = {"custom_distribution": ("exponential", 1, 90, 12), "labeled_custom_distribution": ("linear", 0, 64, 9)}
LINEAR = ("linear", 1, 20, 20)


@dataclass(frozen=True)
class Warehouse:
    """Pings of all channels in one warehouse: a channel's pings are its own, so each is a set to be tried."""

    client: bigquery.Client
    pings: Sequence[Ping]

    def agrees(self, question: Question) -> Rows:
        """The rows of a probe, which are those of the reference."""
        own = [ping for ping in self.pings if question.channel == ping.app_channel]
        own = [ping for ping in own if (ping.dataset == "firefox_desktop") == (question.product == "fog")]
        expected = reference_rows(own, question)
        assert self.built(question) == expected
        return expected

    def built(self, question: Question) -> Rows:
        """The rows that the builder makes."""
        request = BuildRequest(
            uuid4(),
            question.product,
            question.channel,
            PROBES[question.metric_type],
            question.metric_type,
            ("metrics", "baseline"),
            question.run_date,
            question.latest_version,
            definition_of(question),
        )
        options = ComputeOptions(
            SourceOptions(
                thresholds=Thresholds({}, Minimum(question.more_clients_than, question.more_users_than)),
                sampled_by_clients=frozenset(PROBES.values()) if question.sampled_by_clients else frozenset(),
                sampled_channels={question.channel: 10} if question.sampled else {},
            )
        )
        return as_rows(compute_probe(self.client, request, options, lambda *_: None).rows)


def definition_of(question: Question) -> Definition:
    labels = LABELS if question.declared_labels else ()
    return Definition(*(question.buckets or (None,) * 4), labels=labels)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    pings = [ping for channel in DATASETS for ping in random_pings(0, 300, channel, 25, DATASETS[channel])]
    for seed in range(ROUNDS):
        pings += random_pings(seed, 300, f"nightly-{seed}", 25)
        pings += random_pings(seed, 300, f"release-{seed}", 25)
    with warehouse(tmp_path_factory.mktemp("filled") / "pings.duckdb", pings) as client:
        yield Warehouse(client, pings)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("channel", ["nightly", "release"])
@pytest.mark.parametrize("metric_type", PROBES)
def test_every_metric_type_has_the_same_rows(filled: Warehouse, metric_type: str, channel: str, seed: int) -> None:
    question = Question(
        metric_type,
        RUN_DATE,
        f"{channel}-{seed}",
        more_clients_than=9,
        more_users_than=3,
        buckets=BUCKETS.get(metric_type),
        sampled=channel == "release",
    )
    assert len(filled.agrees(question)) > 20
