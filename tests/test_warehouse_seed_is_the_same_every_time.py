"""Equal options make equal pings, in the shape and with the stories that the statistics need."""

import datetime as dt
import json
import time
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from builder.warehouse.probes import PROBES
from builder.warehouse.sample import DATASET, PROJECT, REGRESSED_BUILDS, TABLE
from builder.warehouse.seeding import CATALOGUE, DATABASE, seed
from tests.warehouse_support import OPTIONS, UNTIL, nothing, over_pings, seeded

TABLE_SQL = f'"{PROJECT}.{DATASET}"."{TABLE}"'


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory.mktemp("seed")).parent


def ask(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Rows of a DuckDB query, `pings` being the table."""
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(over_pings(sql).replace(f"`{PROJECT}.{DATASET}.{TABLE}`", TABLE_SQL)).fetchall()


def digest(database: Path) -> object:
    """A hash of all pings and of all sizes, in order."""
    pings = ask(database, "SELECT md5(string_agg(md5(p::VARCHAR), '' ORDER BY rowid)) FROM pings AS p")
    return pings + ask(
        database, "SELECT md5(string_agg(b::VARCHAR, '' ORDER BY b::VARCHAR)) FROM about.leaf_bytes AS b"
    )


def test_equal_seeds_make_equal_pings_and_others_other_ones(directory: Path, tmp_path: Path) -> None:
    seed(tmp_path / "same", OPTIONS, nothing)
    seed(tmp_path / "other", replace(OPTIONS, seed=8), nothing)
    assert digest(tmp_path / "same" / DATABASE) == digest(directory / DATABASE)
    assert digest(tmp_path / "other" / DATABASE) != digest(directory / DATABASE)


def test_a_second_seed_does_nothing_unless_the_options_differ(directory: Path) -> None:
    before = (directory / DATABASE).stat()
    assert not seed(directory, OPTIONS, nothing)
    assert (directory / DATABASE).stat().st_mtime_ns == before.st_mtime_ns


def test_an_interrupted_seed_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed(tmp_path, OPTIONS, interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / DATABASE).write_bytes(b"half a file")
    steps: list[int] = []
    assert seed(tmp_path, OPTIONS, lambda done, _: steps.append(done))
    assert steps == sorted(steps)
    assert {path.name for path in tmp_path.iterdir()} == {DATABASE, CATALOGUE}


def test_the_shape_is_that_of_a_real_ping_table(directory: Path) -> None:
    count = "SELECT count(DISTINCT client_info.app_build), count(DISTINCT client_info.os) FROM pings"
    assert ask(directory / DATABASE, count) == [(30, 3)]
    versions = """
    SELECT DISTINCT client_info.app_display_version FROM pings WHERE client_info.app_channel = 'nightly' ORDER BY 1
    """
    assert ask(directory / DATABASE, versions) == [("150.0a1",), ("151.0a1",), ("152.0a1",)]
    last = "SELECT max(client_info.app_build)[:8], max(CAST(submission_timestamp AS DATE)) FROM pings"
    assert ask(directory / DATABASE, last) == [(UNTIL.strftime("%Y%m%d"), UNTIL)]
    odd = "SELECT count(*) FILTER (WHERE client_info.client_id IS NULL) > 0 FROM pings"
    assert ask(directory / DATABASE, odd) == [(True,)]
    sorted_rows = ask(directory / DATABASE, "SELECT submission_timestamp FROM pings")
    assert all(a <= b for a, b in pairwise([str(row[0]) for row in sorted_rows]))


def test_sample_ids_are_the_checksums_of_client_ids(directory: Path) -> None:
    pairs = ask(directory / DATABASE, "SELECT DISTINCT client_info.client_id, sample_id FROM pings")
    known = [(str(client), sample) for client, sample in pairs if client]
    assert len(known) == OPTIONS.clients
    assert all(zlib.crc32(client.encode()) % 100 == sample for client, sample in known)


def test_the_regression_shows_and_is_fixed_and_the_rare_probe_is_rare(directory: Path) -> None:
    sql = """
    SELECT client_info.app_build, avg(list_sum(list_transform(v, lambda e: ln(CAST(e.key AS DOUBLE)))) / len(v))
    FROM (SELECT *, metrics.timing_distribution.wr_renderer_time.values AS v FROM pings) GROUP BY 1 ORDER BY 1
    """
    means = [float(str(mean)) for _, mean in ask(directory / DATABASE, sql)]
    bad = [means[build] for build in REGRESSED_BUILDS]
    good = [mean for build, mean in enumerate(means) if build not in REGRESSED_BUILDS]
    assert min(bad) > max(good)
    rare = """
    SELECT count(DISTINCT client_info.client_id) FROM pings
    WHERE metrics.counter.findbar_match_diacritics IS NOT NULL
    """
    assert ask(directory / DATABASE, rare) == [(6,)]


def test_systems_differ(directory: Path) -> None:
    sql = "SELECT client_info.os, avg(metrics.timespan.extensions_startup_cache_load_time.value) FROM pings GROUP BY 1"
    means = {os: float(str(mean)) for os, mean in ask(directory / DATABASE, sql)}
    assert means["Windows"] > means["Linux"] + 5


def test_every_bucket_is_one_of_its_distribution(directory: Path) -> None:
    for probe in (probe for probe in PROBES if "distribution" in probe.type):
        path = f"metrics.{probe.type}.{probe.name}.values"
        sql = " ".join(["SELECT DISTINCT unnest(", path, ").key FROM pings"])
        keys = {int(str(key)) for (key,) in ask(directory / DATABASE, sql)}
        assert keys
        assert keys <= set(probe.buckets()), probe.name


def test_the_catalogue_lists_every_probe_as_a_usage_event(directory: Path) -> None:
    lines = [json.loads(line) for line in (directory / CATALOGUE).read_text().splitlines()]
    assert [(line["probe"], line["data"]) for line in lines] == [
        (probe.name, {"type": probe.type, "ping": "metrics"}) for probe in PROBES
    ]
    assert len({line["event_id"] for line in lines}) == len(PROBES) >= 20
    assert {(line["type"], line["product"]) for line in lines} == {("probe_registered", "fog")}
    assert all(dt.datetime.fromisoformat(line["occurred_at"]).tzinfo for line in lines)


def test_the_time_it_takes_is_told(tmp_path: Path) -> None:
    began = time.perf_counter()
    seed(tmp_path, replace(OPTIONS, clients=1_000), nothing)
    print(f"\n1,000 clients seeded in {time.perf_counter() - began:.1f} s")
    assert (tmp_path / DATABASE).stat().st_size > 100_000
