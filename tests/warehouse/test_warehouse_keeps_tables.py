"""Tables that clients of the warehouse write, and the jobs that wrote them, are kept, told of, and read by day."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud.bigquery import Client, Dataset, SchemaField, Table, TimePartitioning

from tests.support.warehouse_support import NEVER, SECONDS, client_of, dry, rows, scalar, start
from tests.support.warehouse_tables import content, empty_database, loaded, make_table, parquet, run, writable
from warehouse.errors import BigQueryError, WarehouseFileError
from warehouse.querying import run_locally

DAYS = [dt.date(2026, 11, 18), dt.date(2026, 11, 19), dt.date(2026, 11, 19), None]
EVENTS = [SchemaField("day", "DATE"), SchemaField("type", "STRING"), SchemaField("n", "INTEGER", "REPEATED")]
WRITE_TRUNCATE, WRITE_APPEND = "WRITE_TRUNCATE", "WRITE_APPEND"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with writable(tmp_path_factory.mktemp("kept")) as client:
        yield client


def estimate(client: Client, sql: str) -> int:
    return start(client, sql, config=dry()).total_bytes_processed or 0


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with writable(tmp_path) as client:
        loaded(client, "t", parquet({"a": [1, 2]}), job_id="load")
        run(client, "INSERT glam_etl.t (a) VALUES (3)", job_id="insert")
        run(client, "SELECT a * 2 AS b FROM glam_etl.t", job_id="select", destination=f"{client.project}.glam_etl.u")
    path, sql = tmp_path / "warehouse.duckdb", "SELECT a FROM glam_etl.t ORDER BY a"
    assert run_locally(path, sql) == (["a"], [(1,), (2,), (3,)])
    with pytest.raises(BigQueryError, match="DELETE changes a table: ask a running warehouse"):
        run_locally(path, "DELETE glam_etl.t WHERE TRUE")
    with client_of(path) as client:
        with pytest.raises(WarehouseFileError, match="--url"):
            run_locally(path, sql)
        assert content(client, "t") == [(1,), (2,), (3,)]
        jobs: Any = [client.get_job(key, location="US", retry=NEVER) for key in ("load", "insert", "select")]
        assert [job.state for job in jobs] == ["DONE"] * 3
        assert (jobs[0].output_rows, jobs[1].num_dml_affected_rows) == (2, 1)
        assert sorted(row.b for row in jobs[2].result(retry=NEVER, timeout=SECONDS)) == [2, 4, 6]
        with pytest.raises(Conflict, match="Already Exists: Job"):
            start(client, "INSERT glam_etl.t (a) VALUES (3)", job_id="insert")
        assert [job.job_id for job in client.list_jobs(retry=NEVER)] == ["select", "insert", "load"]
        assert estimate(client, "SELECT a FROM glam_etl.t") == 24


def test_jobs_of_all_kinds_are_listed_in_pages_by_state_and_time(tmp_path: Path) -> None:
    with writable(tmp_path) as client:
        loaded(client, "t", parquet({"a": [1]}), job_id="j0")
        run(client, "DELETE glam_etl.t WHERE TRUE", job_id="j1")
        run(client, "SELECT 1", job_id="j2")
        with pytest.raises(BadRequest):
            run(client, "SELECT 1 / (SELECT 0)", job_id="j3")
        pages = client.list_jobs(page_size=3, retry=NEVER, timeout=SECONDS).pages
        assert [[job.job_id for job in page] for page in pages] == [["j3", "j2", "j1"], ["j0"]]
        listed = list(client.list_jobs(state_filter="done", retry=NEVER, timeout=SECONDS))
        assert [(job.job_type, job.state, bool(job.error_result)) for job in listed] == [
            ("query", "DONE", True),
            ("query", "DONE", False),
            ("query", "DONE", False),
            ("load", "DONE", False),
        ]
        assert list(client.list_jobs(state_filter="running", retry=NEVER, timeout=SECONDS)) == []
        later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        assert list(client.list_jobs(min_creation_time=later, retry=NEVER, timeout=SECONDS)) == []
        assert len(list(client.list_jobs(max_creation_time=later, retry=NEVER, timeout=SECONDS))) == 4
        assert list(client.list_jobs(parent_job="j1", retry=NEVER, timeout=SECONDS)) == []


def test_a_query_writes_its_rows_to_a_table(client: Client) -> None:
    to = f"{client.project}.glam_etl.made"
    sql = "SELECT day, [1, 2] AS l FROM UNNEST([DATE '2026-11-18', DATE '2026-11-19']) AS day"
    run(client, sql, destination=to, time_partitioning=TimePartitioning(field="day"), clustering_fields=["day"])
    table = client.get_table(to, retry=NEVER, timeout=SECONDS)
    assert (table.num_rows, table.time_partitioning.field, table.clustering_fields) == (2, "day", ["day"])
    with pytest.raises(Conflict, match="Already Exists"):
        run(client, sql, destination=to)
    run(client, sql, destination=to, write_disposition=WRITE_APPEND)
    assert len(content(client, "made")) == 4
    result = start(client, "SELECT DATE '2026-11-20' AS day, [3] AS l").result(retry=NEVER)
    assert [tuple(row.values()) for row in result] == [(dt.date(2026, 11, 20), [3])]
    run(client, "SELECT DATE '2026-11-20' AS day", destination=to, write_disposition=WRITE_TRUNCATE)
    assert content(client, "made") == [(dt.date(2026, 11, 20),)]
    assert client.get_table(to, retry=NEVER, timeout=SECONDS).time_partitioning.field == "day"
    with pytest.raises(BadRequest, match="Cannot set destination table in jobs with DML"):
        run(client, "DELETE glam_etl.made WHERE TRUE", destination=to)


def test_the_days_of_a_partitioned_table_are_read_alone(client: Client) -> None:
    partitioning = TimePartitioning(field="day")
    make_table(client, "events", *EVENTS, time_partitioning=partitioning, require_partition_filter=True)
    loaded(client, "events", parquet({"day": DAYS, "type": ["a", "bb", "ccc", "d"]}), write_disposition=WRITE_APPEND)
    run(client, "INSERT glam_etl.events (day, n) VALUES ('2026-11-20', [1, 2, 3])")
    assert estimate(client, "SELECT type FROM glam_etl.events WHERE day = '2026-11-19'") == 2 * 8 + 2 * 2 + 5
    assert estimate(client, "SELECT n FROM glam_etl.events WHERE day > '2026-11-19'") == 8 + 8 * 3
    assert estimate(client, "SELECT day, n FROM glam_etl.events WHERE day > '2026-01-01'") == 8 * 4 + 8 * 3
    assert estimate(client, "DELETE glam_etl.events WHERE day = '2026-11-18'") == 8 + 2 + 1
    with pytest.raises(BadRequest, match="without a filter over column"):
        estimate(client, "SELECT type FROM glam_etl.events")
    with pytest.raises(BadRequest, match="without a filter over column"):
        estimate(client, "DELETE glam_etl.events WHERE type = 'a'")


def test_datasets_and_tables_are_made_told_of_listed_and_deleted(client: Client) -> None:
    client.create_dataset(Dataset(f"{client.project}.other"), retry=NEVER, timeout=SECONDS)
    with pytest.raises(Conflict, match="Already Exists: Dataset"):
        client.create_dataset("other", retry=NEVER, timeout=SECONDS)
    client.create_dataset("other", exists_ok=True, retry=NEVER, timeout=SECONDS)
    for name in ("one", "two", "three"):
        client.create_table(Table(f"{client.project}.other.{name}", EVENTS), retry=NEVER, timeout=SECONDS)
    with pytest.raises(Conflict, match="Already Exists: Table"):
        client.create_table(Table(f"{client.project}.other.one", EVENTS), retry=NEVER, timeout=SECONDS)
    pages = client.list_tables("other", page_size=2, retry=NEVER, timeout=SECONDS).pages
    assert [[table.table_id for table in page] for page in pages] == [["one", "three"], ["two"]]
    assert [d.dataset_id for d in client.list_datasets(retry=NEVER, timeout=SECONDS)] == ["glam_etl", "other"]
    client.delete_table("other.one", retry=NEVER, timeout=SECONDS)
    with pytest.raises(NotFound, match="Not found: Table"):
        client.get_table("other.one", retry=NEVER, timeout=SECONDS)
    with pytest.raises(NotFound, match="Not found: Table"):
        rows(client, "SELECT type FROM other.one")
    with pytest.raises(BadRequest, match="is still in use"):
        client.delete_dataset("other", retry=NEVER, timeout=SECONDS)
    client.delete_dataset("other", delete_contents=True, retry=NEVER, timeout=SECONDS)
    with pytest.raises(NotFound, match="Not found: Dataset"):
        client.get_dataset("other", retry=NEVER, timeout=SECONDS)


def test_a_table_whose_time_is_over_is_gone(client: Client) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    make_table(client, "over", *EVENTS, expires=past + dt.timedelta(hours=2))
    assert content(client, "over") == []
    client.delete_table("glam_etl.over", retry=NEVER, timeout=SECONDS)
    with pytest.raises(NotFound):
        make_table(client, "over", *EVENTS, expires=past)
    make_table(client, "over", *EVENTS)
    assert content(client, "over") == []


def test_a_table_that_is_replaced_is_translated_anew(client: Client) -> None:
    for values, wanted in (([1], [1]), (["x"], ["x"])):
        loaded(client, "replaced", parquet({"a": values}), write_disposition=WRITE_TRUNCATE)
        assert [a for (a,) in rows(client, "SELECT a FROM glam_etl.replaced")] == wanted


def test_changes_of_one_table_follow_each_other(client: Client) -> None:
    make_table(client, "counter", SchemaField("n", "INTEGER"))
    run(client, "INSERT glam_etl.counter (n) VALUES (0)")
    jobs = [start(client, "UPDATE glam_etl.counter SET n = n + 1 WHERE TRUE") for _ in range(8)]
    for job in jobs:
        job.result(retry=NEVER, timeout=SECONDS, job_retry=None)
    assert content(client, "counter") == [(8,)]
    assert scalar(client, "(SELECT COUNT(*) FROM glam_etl.counter)") == 1


def test_an_empty_warehouse_has_no_tables(tmp_path: Path) -> None:
    with client_of(empty_database(tmp_path)) as client:
        assert list(client.list_datasets(retry=NEVER, timeout=SECONDS)) == []
    assert not (tmp_path / "warehouse.tables").exists()
