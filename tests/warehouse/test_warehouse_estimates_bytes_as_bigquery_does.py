"""A dry run tells the logical bytes of the columns and days that are read; the limit on billed bytes holds."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.bigquery import Client, QueryJobConfig

from tests.support.warehouse_support import (
    DATASET,
    NEVER,
    TABLE,
    UNTIL,
    client_of,
    dry,
    over_pings,
    seeded,
    since,
    start,
)
from warehouse.sample.pings import PROJECT

DAY = UNTIL - dt.timedelta(days=20)
TABLE_SQL = f'"{PROJECT}.{DATASET}"."{TABLE}"'
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded(tmp_path_factory)


@pytest.fixture(scope="module")
def client(database: Path) -> Iterator[Client]:
    with client_of(database) as client:
        yield client


def estimate(client: Client, columns: str, condition: str = "submission_timestamp >= @since") -> int:
    sql = over_pings(" ".join(["SELECT", columns, "FROM pings AS t WHERE", condition]))
    processed = start(client, sql, config=dry(query_parameters=[since(DAY)])).total_bytes_processed
    assert processed is not None
    return int(processed)


def pings_since(database: Path, column: str, day: dt.date) -> list[object]:
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.table(TABLE_SQL).filter(f"submission_timestamp >= '{day}'").project(column).fetchall()
    return [value for (value,) in found]


def text_bytes(values: list[object]) -> int:
    return sum(2 + len(str(value).encode()) for value in values if value is not None)


def test_a_probe_costs_its_own_bytes_and_the_filter_s(client: Client, database: Path) -> None:
    pings = pings_since(database, "metrics.timing_distribution.wr_renderer_time.values", DAY)
    entries = [entry for ping in pings if isinstance(ping, list) for entry in ping]
    timestamps = 8 * len(pings)
    both = timestamps + text_bytes([entry["key"] for entry in entries]) + 8 * len(entries)
    assert estimate(client, "metrics.timing_distribution.wr_renderer_time.values") == both
    values = "(SELECT SUM(v.value) FROM UNNEST(metrics.timing_distribution.wr_renderer_time.values) AS v)"
    assert estimate(client, values) == timestamps + 8 * len(entries)


def test_scalars_texts_and_nulls_have_the_sizes_that_bigquery_documents(client: Client, database: Path) -> None:
    timestamps = 8 * len(pings_since(database, "sample_id", DAY))
    counters = pings_since(database, "metrics.counter.downloads_file_opened", DAY)
    assert estimate(client, "metrics.counter.downloads_file_opened") == timestamps + 8 * sum(
        value is not None for value in counters
    )
    flags = pings_since(database, "metrics.boolean.fxa_sync_enabled", DAY)
    assert estimate(client, "metrics.boolean.fxa_sync_enabled") == timestamps + sum(flag is not None for flag in flags)
    names = pings_since(database, "client_info.client_id", DAY)
    assert estimate(client, "client_info.client_id") == timestamps + text_bytes(names)


def test_only_the_days_that_are_left_count(client: Client, database: Path) -> None:
    for condition, first, last in [
        ("submission_timestamp >= @since", DAY, UNTIL),
        ("DATE(submission_timestamp) = '2026-03-20'", dt.date(2026, 3, 20), dt.date(2026, 3, 20)),
        (
            "DATE(submission_timestamp) BETWEEN '2026-03-02' AND DATE '2026-03-05'",
            dt.date(2026, 3, 2),
            dt.date(2026, 3, 5),
        ),
        (
            "submission_timestamp >= @since AND submission_timestamp < TIMESTAMP_ADD(@since, INTERVAL 2 DAY)",
            DAY,
            DAY + dt.timedelta(1),
        ),
        (
            "TIMESTAMP '2026-03-03 12:00:00' > submission_timestamp AND sample_id >= 0",
            dt.date(2025, 1, 1),
            dt.date(2026, 3, 3),
        ),
        ("TIMESTAMP_TRUNC(submission_timestamp, DAY) = '2026-03-20'", dt.date(2026, 3, 20), dt.date(2026, 3, 20)),
    ]:
        days = [str(day) for day in pings_since(database, "CAST(submission_timestamp AS DATE)", dt.date(2025, 1, 1))]
        left = sum(str(first) <= day <= str(last) for day in days)
        extra = 8 * left if "sample_id" in condition else 0
        assert estimate(client, "COUNT(*)", condition) == 8 * left + extra, condition


def test_a_dry_run_runs_nothing_and_checks_everything(client: Client) -> None:
    job = start(client, "SELECT 1 AS one, 1 / 0 AS two", config=dry())
    assert (job.state, job.total_bytes_processed, job.dry_run) == ("DONE", 0, True)
    with pytest.raises(GoogleAPICallError, match=r"Unrecognized name"):
        start(client, "SELECT nope", config=dry())


@pytest.mark.parametrize("limit", [1, 10 * MIB - 1])
def test_a_query_over_the_limit_fails_in_bigquery_s_words(client: Client, limit: int) -> None:
    config = QueryJobConfig(query_parameters=[since(DAY)], maximum_bytes_billed=limit)
    sql = over_pings("SELECT COUNT(*) FROM pings WHERE submission_timestamp >= @since")
    job = start(client, sql, config=config)
    words = f"Query exceeded limit for bytes billed: {limit}. {10 * MIB} or higher required."
    with pytest.raises(GoogleAPICallError, match=words):
        job.result(retry=NEVER, job_retry=None)
    job.reload(retry=NEVER)
    assert job.error_result is not None
    assert job.error_result["reason"] == "bytesBilledLimitExceeded"


def test_a_query_within_the_limit_runs_and_tells_what_it_cost(client: Client) -> None:
    config = QueryJobConfig(query_parameters=[since(DAY)], maximum_bytes_billed=10 * MIB)
    job = start(client, over_pings("SELECT COUNT(*) FROM pings WHERE submission_timestamp >= @since"), config=config)
    job.result(retry=NEVER)
    job.reload(retry=NEVER)
    assert job.total_bytes_processed == estimate(client, "COUNT(*)")
    assert job.total_bytes_billed == 10 * MIB
