"""Equal options make equal pings, in the shape and with the stories that the statistics need."""

import csv
import datetime as dt
import json
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from tests.support.servers import shared_file
from tests.support.warehouse_support import DATASET, OPTIONS, TABLE, UNTIL, nothing, over_pings, seeded
from warehouse.sample.filling import steps
from warehouse.sample.pings import PROJECT, TYPES, SampleOptions
from warehouse.sample.populations import BUILDS, GECKOVIEW, NEWEST_VERSION, REGRESSED_BUILDS, TABLES
from warehouse.sample.probes import PROBES, sample_probes
from warehouse.sample.seeding import CATALOGUE, DATABASE, seed

REAL_CATALOGUE = shared_file("probes.csv")
FEW = SampleOptions(clients=20, until=UNTIL, probes=sample_probes(2))
TABLE_SQL = f'"{PROJECT}.{DATASET}"."{TABLE}"'


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory).parent


def ask(database: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a DuckDB query, in which `pings` stands for the table."""
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(over_pings(sql).replace(f"`{PROJECT}.{DATASET}.{TABLE}`", TABLE_SQL)).fetchall()


def digest(database: Path) -> object:
    """Return a hash of all pings and of all sizes, in order."""
    pings = ask(database, "SELECT md5(string_agg(md5(p::VARCHAR), '' ORDER BY rowid)) FROM pings AS p")
    return pings + ask(
        database, "SELECT md5(string_agg(b::VARCHAR, '' ORDER BY b::VARCHAR)) FROM about.leaf_bytes AS b"
    )


def test_equal_seeds_make_equal_pings_and_others_other_ones(tmp_path: Path) -> None:
    one_of_each_type = tuple({probe.type: probe for probe in PROBES}.values())
    options = replace(OPTIONS, clients=10, tables=TABLES[:1], probes=one_of_each_type)
    seed(tmp_path / "one", options, nothing)
    seed(tmp_path / "same", options, nothing)
    seed(tmp_path / "other", replace(options, seed=8), nothing)
    one, same, other = (digest(tmp_path / name / DATABASE) for name in ("one", "same", "other"))
    assert one == same != other


def test_a_second_seed_does_nothing_unless_the_options_differ(directory: Path) -> None:
    before = (directory / DATABASE).stat()
    assert not seed(directory, OPTIONS, nothing)
    assert (directory / DATABASE).stat().st_mtime_ns == before.st_mtime_ns


def test_an_interrupted_seed_leaves_the_catalogue_alone_and_is_done_again(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed(tmp_path, FEW, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == [CATALOGUE]  # whole: the service reads it meanwhile
    (tmp_path / DATABASE).write_bytes(b"half a file")
    reported: list[int] = []

    def report(done: int) -> None:
        reported.append(done)

    assert seed(tmp_path, FEW, report)
    assert reported == list(range(1, steps(FEW) + 1))
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
    for probe in OPTIONS.carried_by(TABLES[0]):
        if "distribution" not in probe.type or "labeled" in probe.type:
            continue
        path = f"metrics.{probe.type}.{probe.name}.values"
        sql = " ".join(["SELECT DISTINCT unnest(", path, ").key FROM pings"])
        keys = {int(str(key)) for (key,) in ask(directory / DATABASE, sql)}
        assert keys
        assert keys <= set(probe.buckets()), probe.name


def test_labels_are_those_of_the_definition_at_every_level(directory: Path) -> None:
    for path, labels in [
        ("labeled_counter.startup_cache_requests", {"hit_disk", "hit_memory", "miss"}),
        ("labeled_boolean.data_storage_migration", {"AlternateServices", "SiteSecurityServiceState"}),
        ("labeled_memory_distribution.network_http_upload_bandwidth", {"h1", "h2", "h3"}),
        ("dual_labeled_counter.glean_upload_failures", {"metrics", "baseline", "events"}),
    ]:
        sql = " ".join(["SELECT DISTINCT unnest( metrics.", path, ").key FROM pings"])
        assert {key for (key,) in ask(directory / DATABASE, sql)} == labels
    outer = "SELECT unnest(metrics.dual_labeled_counter.glean_upload_failures).value AS value FROM pings"
    inner = " ".join(["SELECT DISTINCT unnest(value).key FROM (", outer, ")"])
    assert {key for (key,) in ask(directory / DATABASE, inner)} == {"recoverable", "unrecoverable"}


def test_some_clients_change_their_mind_about_a_boolean_and_most_do_not(directory: Path) -> None:
    sql = """
    SELECT count(*) FILTER (WHERE lo <> hi), count(*) FILTER (WHERE lo), count(*) FILTER (WHERE NOT hi)
    FROM (SELECT min(metrics.boolean.widget_dark_mode) AS lo, max(metrics.boolean.widget_dark_mode) AS hi
          FROM pings GROUP BY client_info.client_id, client_info.app_build HAVING count(*) > 1)
    """
    [(sometimes, always, never)] = ask(directory / DATABASE, sql)
    assert 0 < int(str(sometimes)) < int(str(always)) + int(str(never))


def test_the_catalogue_lists_every_probe_product_and_ping_as_a_usage_event(directory: Path) -> None:
    lines = [json.loads(line) for line in (directory / CATALOGUE).read_text().splitlines()]
    assert {(line["product"], line["probe"], line["data"]["type"], line["data"]["ping"]) for line in lines} == {
        (product, probe.name, probe.type, ping)
        for probe in PROBES
        for product in probe.products
        for ping in probe.pings
    }
    assert len({line["event_id"] for line in lines}) == len(lines)
    assert {line["type"] for line in lines} == {"probe_registered"}
    assert all(dt.datetime.fromisoformat(line["occurred_at"]).tzinfo for line in lines)


def test_registrations_define_ranges_labels_that_are_declared_and_units_that_types_do_not_tell(directory: Path) -> None:
    lines = [json.loads(line) for line in (directory / CATALOGUE).read_text().splitlines()]
    data = {line["probe"]: line["data"] for line in lines}
    ranged = {"histogram_type": "linear", "range_min": 1, "range_max": 100, "bucket_count": 50}
    known = data["javascript_gc_mark_rate"]
    expected = {"type": "custom_distribution", "ping": "metrics"} | ranged
    assert known | expected == known
    assert data["startup_cache_requests"]["labels"] == ["hit_disk", "hit_memory", "miss"]
    assert "labels" not in data["glean_error_invalid_label"]
    assert all("range_max" in found for found in data.values() if "custom" in found["type"])
    assert data["javascript_gc_mmu_50"]["unit"] == "percent"
    assert "unit" not in data["memory_total"]


@pytest.mark.skipif(not REAL_CATALOGUE.exists(), reason="probes.csv, the real catalogue, is not here")
def test_names_types_and_pings_are_those_of_the_real_catalogue() -> None:
    with REAL_CATALOGUE.open() as file:
        real = {(row["product"], row["probe"], row["type"], row["ping"]) for row in csv.DictReader(file)}
    known = {kind for _, _, kind, _ in real}
    made = {(product, p.name, p.type, ping) for p in PROBES for product in p.products for ping in p.pings}
    assert {entry for entry in made if entry[2] in known} <= real
    assert {probe.type for probe in PROBES} == set(TYPES)


def test_every_table_of_both_products_has_pings_of_its_channel_alone(tmp_path: Path) -> None:
    everywhere = tuple(probe for probe in PROBES if len(probe.pings) > 1)
    seed(tmp_path, SampleOptions(clients=20, until=UNTIL, probes=everywhere), nothing)
    with duckdb.connect(tmp_path / DATABASE, read_only=True) as connection:
        for table in TABLES:
            relation = connection.table(f'"{PROJECT}.{table.dataset}"."{table.name}"')
            channels = relation.project("client_info.app_channel").distinct().fetchall()
            assert {channel for (channel,) in channels} <= set(table.channels)
        names = connection.execute("SELECT project, dataset, name FROM about.tables").fetchall()
    assert set(names) == {
        *((PROJECT, table.dataset, table.name) for table in TABLES),
        (PROJECT, GECKOVIEW.dataset, GECKOVIEW.name),
    }


def test_every_build_of_fenix_nightly_has_a_version_that_its_pings_do_not_tell(directory: Path) -> None:
    with duckdb.connect(directory / DATABASE, read_only=True) as connection:
        pings = connection.table(f'"{PROJECT}.org_mozilla_fenix_stable"."metrics_v1"')
        sent = {text for (text,) in pings.project("client_info.app_display_version").distinct().fetchall()}
        table = connection.table(f'"{PROJECT}.{GECKOVIEW.dataset}"."{GECKOVIEW.name}"')
        versions = dict(table.fetchall())
    assert all(text.startswith("Nightly ") for text in sent)
    assert len(versions) == BUILDS
    assert set(versions.values()) == {NEWEST_VERSION - age for age in range(3)}


def test_build_ids_of_android_count_hours(directory: Path) -> None:
    with duckdb.connect(directory / DATABASE, read_only=True) as connection:
        pings = connection.table(f'"{PROJECT}.org_mozilla_fenix_stable"."metrics_v1"')
        ids = [int(text) for (text,) in pings.project("client_info.app_build").distinct().fetchall()]
    hours = {(number >> 3) & 0x1FFFF for number in ids}
    made = {dt.datetime(2014, 12, 28, tzinfo=dt.UTC) + dt.timedelta(hours=hour) for hour in hours}
    assert max(made).date() == UNTIL
    assert all(len(str(number)) == 10 for number in ids)


def test_many_probes_are_the_known_ones_and_numbered_copies() -> None:
    many = sample_probes(200)
    assert many[: len(PROBES)] == PROBES
    assert len({probe.name for probe in many}) == 200
    assert sample_probes(3) == PROBES[:3]
