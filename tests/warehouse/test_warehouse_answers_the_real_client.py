"""Google's own client gets rows, types, pages and errors from the warehouse as it gets them from BigQuery."""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound
from google.cloud.bigquery import ArrayQueryParameter, Client, QueryJobConfig, ScalarQueryParameter

from tests.support.snippets import snippets
from tests.support.warehouse_support import (
    NEVER,
    SECONDS,
    UNTIL,
    client_of,
    over_pings,
    rows,
    scalar,
    seeded,
    since,
    start,
)
from warehouse.engine import Engine

Scalar = int | float | str | bool | dt.date | dt.datetime


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client_of(seeded(tmp_path_factory)) as client:
        yield client


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("9223372036854775807", 9223372036854775807),
        ("0.1", 0.1),
        ("'it\\'s'", "it's"),
        ("TRUE", True),
        ("DATE '2024-02-29'", dt.date(2024, 2, 29)),
        ("TIMESTAMP '2024-02-29 01:02:03.000004'", dt.datetime(2024, 2, 29, 1, 2, 3, 4, dt.UTC)),
        ("TIMESTAMP '1969-12-31 23:59:59'", dt.datetime(1969, 12, 31, 23, 59, 59, 0, dt.UTC)),
        ("CAST(NULL AS STRING)", None),
        ("[1, 2]", [1, 2]),
        ("CAST(NULL AS ARRAY<INT64>)", []),
        ("STRUCT(1 AS a, 'x' AS b, [TRUE] AS c)", {"a": 1, "b": "x", "c": [True]}),
        ("[STRUCT('k' AS key, STRUCT(2.5 AS v) AS value)]", [{"key": "k", "value": {"v": 2.5}}]),
    ],
)
def test_every_type_arrives_as_itself(client: Client, expression: str, value: object) -> None:
    found = scalar(client, expression)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", -(2**63)),
        ("FLOAT64", 2.5),
        ("STRING", "'; DROP TABLE x --"),
        ("BOOL", False),
        ("DATE", dt.date(2024, 2, 29)),
        ("TIMESTAMP", dt.datetime(2024, 2, 29, 1, 2, 3, 4, dt.UTC)),
    ],
)
def test_parameters_are_values_of_every_type(client: Client, kind: str, value: Scalar) -> None:
    parameters = [ScalarQueryParameter("one", kind, value), ScalarQueryParameter("none", kind, None)]
    config = QueryJobConfig(query_parameters=[*parameters, ArrayQueryParameter("many", kind, [value, value])])
    sql = "SELECT @one, @none, @many, @one IN UNNEST(@many), ARRAY_LENGTH(@MANY)"
    assert rows(client, sql, config) == [(value, None, [value, value], True, 2)]


def test_columns_have_bigquery_s_names_and_types(client: Client) -> None:
    result = start(client, "SELECT 1, 'a' AS b, [2.5], STRUCT(TRUE AS c) AS s").result(retry=NEVER)
    found = [(field.name, field.field_type, field.mode) for field in result.schema]
    assert found == [
        ("f0_", "INTEGER", "NULLABLE"),
        ("b", "STRING", "NULLABLE"),
        ("f1_", "FLOAT", "REPEATED"),
        ("s", "RECORD", "NULLABLE"),
    ]


@pytest.mark.parametrize("page_size", [1, 7, 40, 100, 1000])
def test_pages_of_any_size_hold_every_row_once_and_in_order(client: Client, page_size: int) -> None:
    sql = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 100)) AS x ORDER BY x DESC"
    if page_size == 1:
        sql += " LIMIT 5"
    result = start(client, sql).result(page_size=page_size, retry=NEVER)
    pages = [[row.x for row in page] for page in result.pages]
    assert [x for page in pages for x in page] == list(range(100, 0, -1))[: 5 if page_size == 1 else 100]
    assert all(len(page) == page_size for page in pages[:-1])
    assert result.total_rows == sum(map(len, pages))


def test_a_large_result_arrives_whole(client: Client) -> None:
    sql = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 50000)) AS x"
    assert sum(x for (x,) in rows(client, sql) if isinstance(x, int)) == 50_000 * 50_001 // 2


def test_a_query_without_a_job_works(client: Client) -> None:
    config = QueryJobConfig(query_parameters=[since(UNTIL)])
    sql = over_pings("SELECT COUNT(*) AS n FROM pings WHERE submission_timestamp >= @since")
    result = client.query_and_wait(sql, job_config=config, api_timeout=SECONDS, wait_timeout=SECONDS, retry=NEVER)
    assert next(iter(result)).n > 0


def test_joins_and_nested_arrays_of_real_pings(client: Client) -> None:
    sql = over_pings("""
    WITH samples AS (
      SELECT client_info.os AS os, entry.key AS bucket, SUM(entry.value) AS n
      FROM pings CROSS JOIN UNNEST(metrics.timing_distribution.wr_renderer_time.values) AS entry
      WHERE submission_timestamp >= @since
      GROUP BY os, bucket
    )
    SELECT os, SUM(n) AS total, (SELECT SUM(n) FROM samples) AS everything FROM samples GROUP BY os ORDER BY os
    """)
    found = rows(client, sql, QueryJobConfig(query_parameters=[since(UNTIL - dt.timedelta(days=30))]))
    assert [os for os, _, _ in found] == ["Darwin", "Linux", "Windows"]
    assert {sum(int(str(total)) for _, total, _ in found)} == {everything for _, _, everything in found}


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT nope", BadRequest, "Unrecognized name: nope at [1:8]"),
        ("SELECT 1 / 0", BadRequest, "division by zero"),
        ("SELECT (1", BadRequest, "Syntax error"),
        ("SELECT 1 FROM d.t", NotFound, "was not found in location US"),
        ("SELECT @p", BadRequest, "Query parameter 'p' not found"),
        ("SELECT FORMAT('%d', 1)", BadRequest, "cannot translate"),
        (over_pings("SELECT sample_id FROM pings"), BadRequest, "partition elimination"),
        ("SELECT [1, NULL]", BadRequest, "Array cannot have a null element"),
    ],
)
def test_errors_are_exceptions_of_their_kind(client: Client, sql: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        rows(client, sql)
    assert words in str(caught.value)


def test_a_job_id_is_taken_once_and_found_again(client: Client) -> None:
    job = start(client, "SELECT 5 AS five", job_id="mine")
    with pytest.raises(Conflict, match=r"Already Exists: Job .*:US.mine"):
        start(client, "SELECT 6", job_id="mine")
    job.result(retry=NEVER)
    again: Any = client.get_job("mine", location="US", retry=NEVER, timeout=SECONDS)
    assert (again.state, again.error_result, again.query) == ("DONE", None, "SELECT 5 AS five")
    assert [row.five for row in again.result(retry=NEVER)] == [5]
    assert "mine" in {listed.job_id for listed in client.list_jobs(retry=NEVER, timeout=SECONDS)}


def test_a_job_keeps_its_labels_and_times(client: Client) -> None:
    job = start(client, "SELECT 1", config=QueryJobConfig(labels={"probe": "gc_ms"}))
    job.result(retry=NEVER)
    job.reload(retry=NEVER, timeout=SECONDS)
    assert job.labels == {"probe": "gc_ms"}
    times = [moment for moment in (job.created, job.started, job.ended) if moment]
    assert len(times) == 3
    assert times == sorted(times)
    assert (job.location, job.cache_hit, job.statement_type) == ("US", False, "SELECT")


def test_the_sample_is_read_only(client: Client) -> None:
    with pytest.raises(Forbidden, match="part of the sample, which is read only"):
        rows(client, over_pings("DELETE pings WHERE submission_timestamp > '2020-01-01'"))
    assert client.get_table(over_pings("pings").strip("`"), retry=NEVER, timeout=SECONDS).num_rows


def test_an_unknown_job_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match=r"Not found: Job"):
        client.get_job("never", location="US", retry=NEVER, timeout=SECONDS)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "/jobs", b"{", 400, "parseError"),
        ("POST", "/jobs", b"[]", 400, "parseError"),
        ("POST", "/jobs", b"{}", 400, "invalid"),
        ("POST", "/jobs", b'{"configuration": 5}', 400, "invalid"),
        ("POST", "/jobs", b'{"configuration": {"query": {"query": 5}}}', 400, "invalid"),
        ("POST", "/jobs", b'{"configuration": {"query": {"query": "SELECT 1", "useLegacySql": true}}}', 400, "invalid"),
        (
            "POST",
            "/jobs",
            b'{"jobReference": {"jobId": "a b"}, "configuration": {"query": {"query": "x"}}}',
            400,
            "invalid",
        ),
        ("POST", "/queries", b'{"query": "SELECT 1", "maximumBytesBilled": "many"}', 400, "invalid"),
        ("POST", "/queries", b'{"query": "SELECT 1", "queryParameters": [5]}', 400, "invalid"),
        ("POST", "/queries", b'{"query": "SELECT 1", "timeoutMs": -5}', 400, "invalid"),
        ("POST", "/queries", b'{"query": "' + b"x" * 5_000_000 + b'"}', 413, "invalid"),
        ("GET", "/queries/none", b"", 404, "notFound"),
        ("GET", "/routines", b"", 404, "notFound"),
        ("PUT", "/jobs", b"{}", 405, "notFound"),
    ],
)
def test_bad_requests_are_answered_with_bigquery_s_error(
    client: Client, method: str, path: str, body: bytes, status: int, reason: str
) -> None:
    url = f"{client._connection.API_BASE_URL}/bigquery/v2/projects/p{path}"
    answer = requests.request(method, url, data=body, timeout=SECONDS)
    assert answer.status_code == status
    assert answer.json()["error"]["errors"][0]["reason"] == reason


@pytest.mark.parametrize("argument", ["pageToken=nonsense", "pageToken=cm93OngK", "maxResults=x", "startIndex=-1"])
def test_bad_page_arguments_are_refused(client: Client, argument: str) -> None:
    job = start(client, "SELECT 1")
    job.result(retry=NEVER)
    url = f"{client._connection.API_BASE_URL}/bigquery/v2/projects/{job.project}/queries/{job.job_id}?{argument}"
    assert requests.get(url, timeout=SECONDS).status_code == 400


def test_a_with_table_that_only_scans_is_not_copied_and_any_other_is_computed_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sql = over_pings("""
    WITH
      scanned AS (SELECT sample_id AS x FROM pings WHERE submission_timestamp >= '2026-01-01'),
      narrowed AS (SELECT x + 1 AS x FROM scanned),
      grouped AS (SELECT x FROM narrowed GROUP BY x),
      joined AS (SELECT x, y FROM grouped CROSS JOIN UNNEST([x]) AS y)
    SELECT COUNT(*) AS n FROM joined
    """)
    engine = Engine(seeded(tmp_path_factory))
    translated = engine.plan(sql, "p", {}).translation.sql
    engine.close()
    assert re.findall(r'"(\w+)" AS NOT MATERIALIZED', translated) == ["scanned", "narrowed"]
    assert re.findall(r'"(\w+)" AS \(', translated) == ["grouped", "joined"]


def test_the_guides_client_makes_a_table(client: Client) -> None:
    names: dict[str, Any] = {}
    [shown] = snippets("docs/guides/warehouse.md", "python")
    exec(shown.text.replace("http://127.0.0.1:9050", str(client._connection.API_BASE_URL)), names)
    assert rows(client, "SELECT day, n FROM mine.events") == [(dt.date(2026, 11, 19), 1)]
    names["client"].close()
