"""A probe built through BigQuery's client and the embedded warehouse equals the brute force over the raw pings.

SOAK_ROUNDS says how many sets of pings are tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from google.cloud import bigquery

from tests.support.built_rows import built_rows
from tests.support.glam_today_reference import DATASETS, Ping, Question, Rows, reference_rows
from tests.support.googlesql import GECKOVIEW_VERSIONS, PROBES
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import rounds

ROUNDS = rounds(1)
BUCKETS = {"custom_distribution": ("exponential", 1, 90, 12), "labeled_custom_distribution": ("linear", 0, 64, 9)}
# Of every type in soaks; else one of each family, for test_builds_equal_glams_rules tries every type, too.
FAMILIES = ("counter", "labeled_boolean", "labeled_custom_distribution")
CASES = [(metric_type, "nightly") for metric_type in FAMILIES] + [
    (metric_type, "release") for metric_type in (PROBES if ROUNDS > 1 else FAMILIES)
]


@dataclass(frozen=True)
class Warehouse:
    """Pings of all channels in one warehouse: a channel's pings are its own, so each is a set to be tried."""

    client: bigquery.Client
    pings: Sequence[Ping]

    def agrees(self, question: Question) -> Rows:
        """Return the rows of a probe, and assert that they equal those of the reference."""
        expected = reference_rows(self.pings, question)
        assert built_rows(self.client, question) == expected
        return expected


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    pings = [ping for channel in DATASETS for ping in random_pings(0, 150, channel, 20, DATASETS[channel])]
    pings += [replace(ping, display_version="152.0") for ping in random_pings(8, 40, "few", 5)]
    pings += random_pings(7, 100, "few", 20)
    for seed in range(ROUNDS):
        pings += random_pings(seed, 150, f"nightly-{seed}", 20)
        pings += random_pings(seed, 150, f"release-{seed}", 20)
    with warehouse(tmp_path_factory.mktemp("filled") / "pings.duckdb", pings) as client:
        yield Warehouse(client, pings)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize(("metric_type", "channel"), CASES)
def test_metric_types_have_the_same_rows(filled: Warehouse, metric_type: str, channel: str, seed: int) -> None:
    question = Question(
        metric_type,
        RUN_DATE,
        f"{channel}-{seed}",
        more_clients_than=6,
        more_users_than=3,
        buckets=BUCKETS.get(metric_type),
        sampled=channel == "release",
    )
    assert len(filled.agrees(question)) > 10


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("channel", ["nightly", "release"])
def test_a_counter_that_declares_its_labels_is_a_distribution(filled: Warehouse, channel: str, seed: int) -> None:
    question = Question(
        "labeled_counter", RUN_DATE, f"{channel}-{seed}", 150, 6, 3, declared_labels=True, sampled=channel == "release"
    )
    rows = filled.agrees(question)
    assert len(rows) > 10
    assert {row.percentiles for row in rows.values()} == {"{}"}


@pytest.mark.parametrize(
    ("channel", "metric_type"),
    [("nightly", "counter"), ("beta", "labeled_boolean"), ("release", "timing_distribution")],
)
def test_the_channels_of_fenix_are_read_from_their_own_datasets(
    filled: Warehouse, channel: str, metric_type: str
) -> None:
    question = Question(metric_type, RUN_DATE, channel, 150, 6, 3, product="fenix", sampled=channel == "release")
    hours = {"2026103009", "2026111221", "2026111910"}
    if channel == "nightly":
        question = replace(question, geckoview=GECKOVIEW_VERSIONS)
        hours &= GECKOVIEW_VERSIONS.keys()
    rows = filled.agrees(question)
    assert {"*", "2026103009"} <= {build for _, _, _, build, _, _ in rows} <= {"*", *hours}
    assert filled.agrees(replace(question, latest_version=None))


def test_the_latest_version_is_found_in_the_pings(filled: Warehouse) -> None:
    rows = filled.agrees(Question("timing_distribution", RUN_DATE, "few", latest_version=None))
    assert {version for version, *_ in rows} == {148, 149, 150}


@pytest.mark.parametrize("metric_type", ["counter", "timing_distribution"])
def test_a_probe_that_clients_sample_keeps_all_of_them(filled: Warehouse, metric_type: str) -> None:
    sampled = Question(metric_type, RUN_DATE, "few", sampled=True)
    kept = replace(sampled, sampled_by_clients=True)
    assert filled.agrees(kept) != reference_rows(filled.pings, sampled)
