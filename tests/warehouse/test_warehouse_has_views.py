"""Views: a query under a name, which is read like a table, told of with its columns, and changed in place."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud.bigquery import Client, SchemaField, Table, TimePartitioning

from tests.support.warehouse_support import NEVER, SECONDS, client_of, rows
from tests.support.warehouse_tables import load, loaded, parquet, run, succeeded, writable
from warehouse.writing import PARTITIONS_A_JOB, PARTITIONS_A_TABLE

VIEW = "glam_etl.v"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with writable(tmp_path_factory.mktemp("views")) as client:
        loaded(client, "t", parquet({"a": [1, 2, 3], "b": ["x", None, "z"]}))
        yield client


def view(client: Client, query: str, name: str = VIEW) -> Table:
    table = Table(f"{client.project}.{name}")
    table.view_query = query
    return client.create_table(table, retry=NEVER, timeout=SECONDS)


def replaced(client: Client, table: Table, *fields: str) -> Table:
    return client.update_table(table, fields, retry=NEVER, timeout=SECONDS)


def test_a_view_is_read_like_a_table_and_says_what_its_columns_are(client: Client) -> None:
    made = view(client, "SELECT a * 2 AS doubled, b FROM `glam_etl.t` WHERE a > 1")
    assert (made.table_type, [field.name for field in made.schema]) == ("VIEW", ["doubled", "b"])
    assert rows(client, "WITH t AS (SELECT 9 AS a) SELECT doubled FROM glam_etl.v, t WHERE b IS NOT NULL") == [(6,)]
    loaded(client, "t", parquet({"a": [4], "b": ["y"]}), write_disposition="WRITE_APPEND")
    assert rows(client, "SELECT MAX(doubled) FROM glam_etl.v") == [(8,)]
    made.schema = [SchemaField("doubled", "INTEGER", description="twice a"), SchemaField("b", "STRING")]
    assert replaced(client, made, "schema").schema[0].description == "twice a"
    made.view_query = "SELECT a AS doubled, b, 1 AS more FROM glam_etl.t"
    assert [field.name for field in replaced(client, made, "view_query").schema] == ["doubled", "b", "more"]
    assert rows(client, "SELECT MAX(doubled), SUM(more) FROM glam_etl.v") == [(4, 4)]
    assert {table.table_id: table.table_type for table in client.list_tables("glam_etl", retry=NEVER)}["v"] == "VIEW"
    client.delete_table(made, retry=NEVER, timeout=SECONDS)
    with pytest.raises(NotFound):
        rows(client, "SELECT 1 FROM glam_etl.v")


def test_what_is_wrong_with_a_view_is_said(client: Client) -> None:
    with pytest.raises(BadRequest, match="Unrecognized name: nothing"):
        view(client, "SELECT nothing FROM glam_etl.t")
    made = view(client, "SELECT a FROM glam_etl.t", "glam_etl.w")
    with pytest.raises(Conflict):
        view(client, "SELECT b FROM glam_etl.t", "glam_etl.w")
    for change in ("DELETE glam_etl.w WHERE TRUE", "INSERT glam_etl.w (a) VALUES (1)"):
        with pytest.raises(BadRequest, match="because it is a view"):
            run(client, change)
    with pytest.raises(BadRequest, match="because it is a view"):
        loaded(client, "w", parquet({"a": [1]}), write_disposition="WRITE_APPEND")
    made.view_query = "SELECT a FROM glam_etl.w"
    with pytest.raises(BadRequest, match="referenced recursively"):
        replaced(client, made, "view_query")
    made.schema = [SchemaField("other", "INTEGER")]
    with pytest.raises(BadRequest, match="only descriptions may be given"):
        replaced(client, made, "schema")


def test_views_outlive_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("restarted")
    with writable(place) as client:
        loaded(client, "t", parquet({"a": [1]}))
        view(client, "SELECT a + 1 AS b FROM glam_etl.t")
    with client_of(place / "warehouse.duckdb") as client:
        assert rows(client, "SELECT b FROM glam_etl.v") == [(2,)]


def test_a_job_writes_to_no_more_partitions_than_bigquery_lets_it(client: Client) -> None:
    def days(number: int, first: dt.date = dt.date(2000, 1, 1)) -> list[dt.date]:
        return [first + dt.timedelta(days=n) for n in range(number)]

    def append(values: list[dt.date]) -> None:
        by_day = TimePartitioning(field="d")
        succeeded(load(client, "p", parquet({"d": values}), time_partitioning=by_day, write_disposition="WRITE_APPEND"))

    with pytest.raises(BadRequest, match="Too many partitions produced by job"):
        append(days(PARTITIONS_A_JOB + 1))
    for part in range(PARTITIONS_A_TABLE // PARTITIONS_A_JOB):
        append(days(PARTITIONS_A_JOB, dt.date(2000, 1, 1) + dt.timedelta(days=part * PARTITIONS_A_JOB)))
    with pytest.raises(Exception, match="Too many total partitions"):
        append(days(PARTITIONS_A_JOB, dt.date(1980, 1, 1)))
    assert rows(client, "SELECT COUNT(*) FROM glam_etl.p") == [
        (PARTITIONS_A_TABLE // PARTITIONS_A_JOB * PARTITIONS_A_JOB,)
    ]
