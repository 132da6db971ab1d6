"""Statements of DML change tables of the warehouse as those of BigQuery, and tell how many rows."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError
from google.cloud.bigquery import Client, QueryJob, SchemaField

from tests.support.warehouse_support import ENDLESS, NEVER, SECONDS, start
from tests.support.warehouse_tables import content, loaded, make_table, parquet, run, writable

FIELDS = [SchemaField("k", "INTEGER", "REQUIRED"), SchemaField("v", "STRING"), SchemaField("l", "INTEGER", "REPEATED")]
MERGE = """
MERGE glam_etl.{table} AS T USING glam_etl.{table}_new AS S ON T.k = S.k
WHEN MATCHED AND S.v = 'gone' THEN DELETE
WHEN MATCHED THEN UPDATE SET v = S.v, l = [T.k, S.k]
WHEN NOT MATCHED BY TARGET AND S.v != 'skip' THEN INSERT (k, v) VALUES (S.k, S.v)
WHEN NOT MATCHED BY SOURCE AND T.v = 'old' THEN UPDATE SET v = CONCAT(T.v, '!')
"""
INSERTS = [
    "INSERT glam_etl.t (v, k) SELECT CONCAT(v, '+'), k + 10 FROM glam_etl.t",
    "INSERT INTO `glam_etl.t` VALUES (7, DEFAULT, [1, 2])",
]
UPDATES = [
    "UPDATE glam_etl.t SET v = 'none' WHERE v IS NULL",
    "UPDATE glam_etl.t T SET v = S.v FROM (SELECT 7 AS k, 'seven' AS v) AS S WHERE S.k = T.k",
]
DELETES = ["DELETE FROM glam_etl.t AS T WHERE T.k > 10", "DELETE glam_etl.t WHERE v = 'nothing'"]
FROM_TWO = "UPDATE glam_etl.t T SET v = S.v FROM glam_etl.t_new S WHERE T.k = S.k"
WHOLE_ROWS = "MERGE glam_etl.t T USING glam_etl.t_new S ON FALSE WHEN NOT MATCHED AND k = 9 THEN INSERT ROW"
STATEMENTS = [MERGE.format(table="t"), *INSERTS, *UPDATES, *DELETES, FROM_TWO, WHOLE_ROWS]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with writable(tmp_path_factory.mktemp("changes")) as client:
        yield client


def table_of(client: Client, name: str, rows: list[tuple[int, str | None]]) -> None:
    make_table(client, name, *FIELDS)
    keys, values = [k for k, _ in rows], pa.array([v for _, v in rows], pa.string())
    loaded(client, name, parquet({"k": keys, "v": values}), schema=FIELDS)


def stats(job: QueryJob) -> tuple[int | None, int, int, int]:
    found = job.dml_stats
    assert found is not None
    return job.num_dml_affected_rows, found.inserted_row_count, found.updated_row_count, found.deleted_row_count


def test_a_merge_does_what_the_first_clause_says_that_a_row_meets(client: Client) -> None:
    table_of(client, "m", [(1, "old"), (2, "b"), (3, "c"), (4, "d")])
    table_of(client, "m_new", [(2, "gone"), (3, "new"), (5, "e"), (6, "skip")])
    job = run(client, MERGE.format(table="m"))
    assert content(client, "m") == [(1, "old!", []), (3, "new", [3, 3]), (4, "d", []), (5, "e", [])]
    assert stats(job) == (4, 1, 2, 1)
    assert job.statement_type == "MERGE"


def test_a_row_that_several_rows_of_the_source_match_is_an_error_and_nothing_changes(client: Client) -> None:
    table_of(client, "twice", [(1, "a"), (2, "b")])
    table_of(client, "twice_new", [(1, "x"), (1, "y"), (9, "z"), (9, "z")])
    with pytest.raises(BadRequest, match="must match at most one source row for each target row"):
        run(client, MERGE.format(table="twice"))
    with pytest.raises(BadRequest, match="must match at most one source row for each target row"):
        run(client, FROM_TWO.replace("glam_etl.t", "glam_etl.twice"))
    assert content(client, "twice") == [(1, "a", []), (2, "b", [])]
    assert stats(run(client, WHOLE_ROWS.replace("glam_etl.t", "glam_etl.twice"))) == (2, 2, 0, 0)
    assert content(client, "twice") == [(1, "a", []), (2, "b", []), (9, "z", []), (9, "z", [])]


def test_rows_are_inserted_updated_and_deleted(client: Client) -> None:
    table_of(client, "t", [(1, "a"), (2, None)])
    assert [stats(run(client, sql)) for sql in INSERTS] == [(2, 2, 0, 0), (1, 1, 0, 0)]
    assert [stats(run(client, sql)) for sql in UPDATES] == [(3, 0, 3, 0), (1, 0, 1, 0)]
    assert content(client, "t") == [
        (1, "a", []),
        (11, "a+", []),
        (12, "none", []),
        (2, "none", []),
        (7, "seven", [1, 2]),
    ]
    assert [stats(run(client, sql)) for sql in DELETES] == [(2, 0, 0, 2), (0, 0, 0, 0)]
    result = start(client, "DELETE glam_etl.t WHERE TRUE").result(retry=NEVER, timeout=SECONDS, job_retry=None)
    assert (list(result), result.num_dml_affected_rows) == ([], 3)


def test_a_change_that_is_cancelled_has_not_happened(client: Client) -> None:
    table_of(client, "stopped", [(1, "a")])
    job = start(client, f"INSERT glam_etl.stopped (k) {ENDLESS}")
    behind = start(client, "DELETE glam_etl.stopped WHERE TRUE")
    for one in (behind, job):
        one.cancel(retry=NEVER, timeout=SECONDS)
    for one in (behind, job):
        with pytest.raises(GoogleAPICallError, match="cancelled"):
            one.result(retry=NEVER, timeout=SECONDS, job_retry=None)
    assert content(client, "stopped") == [(1, "a", [])]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("INSERT glam_etl.w (v) VALUES ('x')", "Required field k cannot be null"),
        ("INSERT glam_etl.w (k, v) VALUES (1)", "wrong column count; Has 1, expected 2"),
        ("INSERT glam_etl.w (k, z) VALUES (1, 2)", "Column z is not present in table"),
        ("INSERT glam_etl.w (k, K) VALUES (1, 2)", "duplicate name: k"),
        ("INSERT glam_etl.w (k) VALUES ('x')", "Value has type STRING which cannot be inserted into column k"),
        ("INSERT glam_etl.w (k) SELECT 1.5", "Value has type FLOAT64 which cannot be inserted into column k"),
        ("INSERT glam_etl.w (k, l) VALUES (1, [1, NULL])", "Array cannot have a null element"),
        ("UPDATE glam_etl.w SET k = 1", "UPDATE must have a WHERE clause"),
        ("UPDATE glam_etl.w SET k = NULL WHERE TRUE", "Required field k cannot be null"),
        ("UPDATE glam_etl.w SET k = 1, k = 2 WHERE TRUE", "assigned more than once"),
        ("UPDATE glam_etl.w SET k = 1 / 0 WHERE TRUE", "Value of type FLOAT64 cannot be assigned to k"),
        ("UPDATE glam_etl.w SET k = DIV(1, 0) WHERE TRUE", "division by zero"),
        ("UPDATE glam_etl.w SET k = l[OFFSET(5)] WHERE TRUE", "out of bounds"),
        ("DELETE glam_etl.w", "DELETE must have a WHERE clause"),
        ("DELETE glam_etl.w WHERE FORMAT('%d', k) = '1'", "cannot translate"),
        ("DELETE glam_etl.w WHERE z = 1", "Unrecognized name: z"),
        ("MERGE glam_etl.w T USING glam_etl.w S ON T.k = S.k WHEN NOT MATCHED THEN DELETE", "not allowed"),
        (
            "MERGE glam_etl.w T USING glam_etl.w S ON T.k = S.k WHEN NOT MATCHED THEN INSERT (k) VALUES (T.k)",
            "Unrecognized name: T",
        ),
        ("TRUNCATE TABLE glam_etl.w", "cannot translate the statement TRUNCATETABLE"),
        ("CREATE TABLE glam_etl.x (k INT64)", "cannot translate the statement CREATE"),
    ],
)
def test_what_bigquery_refuses_is_refused_and_nothing_changes(client: Client, sql: str, words: str) -> None:
    if "w" not in {table.table_id for table in client.list_tables("glam_etl", retry=NEVER, timeout=SECONDS)}:
        table_of(client, "w", [(1, "a")])
    with pytest.raises(BadRequest, match=words):
        run(client, sql)
    assert content(client, "w") == [(1, "a", [])]
