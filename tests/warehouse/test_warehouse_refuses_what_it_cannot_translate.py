"""The warehouse refuses a query that it cannot translate faithfully, naming the construct; a wrong one is an error."""

import contextlib
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.servers import rounds
from tests.support.warehouse_support import over_pings, seeded
from warehouse.engine import Engine
from warehouse.errors import BigQueryError

REFUSED = [
    ("FORMAT('%d', 1)", "FORMAT"),
    ("APPROX_COUNT_DISTINCT(1)", "APPROX_DISTINCT"),
    ("(SELECT APPROX_QUANTILES(x, 4) FROM UNNEST([1]) AS x)", "APPROX_QUANTILES"),
    ("(SELECT STRING_AGG(x ORDER BY x LIMIT 1) FROM UNNEST(['a']) AS x)", "LIMIT inside an aggregate"),
    ("(SELECT STRING_AGG(DISTINCT x) FROM UNNEST(['a']) AS x)", "DISTINCT inside an aggregate"),
    ("(SELECT ARRAY_AGG(DISTINCT x ORDER BY x) FROM UNNEST([1]) AS x)", "DISTINCT inside an aggregate"),
    ("(SELECT ARRAY_AGG(DISTINCT x) FROM UNNEST([STRUCT(1 AS a)]) AS x)", "DISTINCT"),
    ("(SELECT COUNT(DISTINCT x) FROM UNNEST([STRUCT(1 AS a)]) AS x)", "DISTINCT"),
    ("(SELECT COUNT(DISTINCT x, 1) FROM UNNEST([1]) AS x)", "DISTINCT"),
    ("ROUND(2.675, 2)", "DECIMALS in the function ROUND"),
    ("CAST(TIMESTAMP '2024-01-01' AS STRING)", "CAST from TIMESTAMP to STRING"),
    ("CAST(1.5 AS NUMERIC)", "NUMERIC|DECIMAL"),
    ("IEEE_DIVIDE(1, 0)", "IEEE_DIVIDE"),
    ("SAFE_ADD(1, 2)", "SAFE_ADD"),
    ("SAFE.SUBSTR('a', 1, -1)", "SAFE. prefix"),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-01-01', WEEK)", "date part WEEK"),
    ("TIMESTAMP_TRUNC(TIMESTAMP '2024-01-01', WEEK(MONDAY))", "date part"),
    ("DATE_DIFF(DATE '2024-01-01', DATE '2023-01-01', WEEK)", "date part WEEK"),
    ("EXTRACT(WEEK FROM DATE '2024-01-01')", "EXTRACT of WEEK"),
    ("EXTRACT(HOUR FROM TIMESTAMP '2024-01-01' AT TIME ZONE 'Asia/Tokyo')", "ATTIMEZONE"),
    ("DATE(TIMESTAMP '2024-01-01', 'Asia/Tokyo')", "the time zone Asia/Tokyo"),
    ("FORMAT_TIMESTAMP('%A', TIMESTAMP '2024-01-01')", "the format %A"),
    ("REGEXP_EXTRACT('a', r'(x)?a')", "capturing group"),
    ("REGEXP_CONTAINS('a', LOWER('A'))", "regular expression that is not a literal"),
    ("REGEXP_REPLACE('a', 'a', 'b')", "REGEXP_REPLACE"),
    ("TRIM(' a ')", "TRIM"),
    ("'a' LIKE 'a\\\\%'", "LIKE pattern with a backslash"),
    ("RAND()", "RAND"),
    ("FARM_FINGERPRINT('a')", "FARM_FINGERPRINT"),
    ("GENERATE_UUID()", "UUID"),
    ("TO_JSON_STRING(1.5)", "TO_JSON_STRING of FLOAT64"),
    ("TO_JSON_STRING([1])", "TO_JSON_STRING of ARRAY<INT64>"),
    ("TO_JSON_STRING(STRUCT(1))", "TO_JSON_STRING of a field named"),
    ("TO_JSON_STRING(STRUCT(STRUCT(1 AS b) AS a))", "TO_JSON_STRING of STRUCT"),
    ("TO_JSON_STRING(1, TRUE)", "JSON"),
    ("JSON_QUERY('[1]', '$[0]')", "JSON_QUERY of a path"),
    ("(1, 2) = (1, 2)", "TUPLE"),
    ("STRUCT(1 AS a) = STRUCT(1 AS a)", "comparison of STRUCT"),
    ("NET.HOST('x')", "NET|HOST"),
    ("ml.foo(1)", "dotted name"),
    (
        "IF(TRUE, [STRUCT(1 AS a)], [STRUCT(2 AS b)])[OFFSET(0)].a",
        "arrays of STRUCTs whose fields have different names",
    ),
    ("b'abc'", "BYTESTRING"),
    ("INTERVAL 1 DAY", "INTERVAL"),
    ("FIRST_VALUE(1) OVER ()", "FIRST_?VALUE"),
    ("read_csv('/etc/passwd')", "READ_CSV"),
    ("getenv('HOME')", "GETENV"),
    ("current_setting('memory_limit')", "CURRENT_SETTING"),
    ("@@version", "Query parameter|PARAMETER"),
]
REFUSED_STATEMENTS = [
    ("CREATE TABLE d.t (a INT64)", "CREATE"),
    ("DROP TABLE d.t", "DROP"),
    ("ALTER TABLE d.t ADD COLUMN a INT64", "ALTER"),
    ("TRUNCATE TABLE d.t", "TRUNCATE"),
    ("SELECT 1; SELECT 2", "script"),
    ("CALL d.p()", "COMMAND|CALL"),
    ("COPY (SELECT 1) TO '/tmp/x'", "COPY"),
    ("SELECT * FROM read_csv('/etc/passwd')", "READ_CSV"),
    ("SELECT a FROM UNNEST([1]) AS a TABLESAMPLE SYSTEM (10 PERCENT)", "."),
    ("SELECT STRUCT(1 AS a) AS s UNION ALL SELECT STRUCT(2 AS b)", "UNION of STRUCTs of different types"),
    ("SELECT STRUCT(1 AS a, 2 AS b) AS s UNION ALL SELECT STRUCT(2 AS b, 1 AS a)", "UNION of STRUCTs"),
    ("WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t) SELECT a FROM t", "RECURSIVE"),
    ("SELECT 1 AS a INTERSECT DISTINCT SELECT 1", "INTERSECT"),
    ("SELECT a FROM UNNEST([1]) AS a GROUP BY ROLLUP(a)", "ROLLUP"),
    ("SELECT 1 AS x, x.y FROM (SELECT STRUCT(1 AS y) AS x) AS x", "both a column and an alias"),
    ("SELECT AS VALUE 1", "SELECT AS VALUE"),
    ("SELECT -x AS x FROM UNNEST([1]) AS x GROUP BY x", "both a column and an alias"),
]
WRONG = [
    ("SELECT nope", "Unrecognized name: nope at [1:8]"),
    ("SELECT\n  1,\n  nope", "Unrecognized name: nope at [3:3]"),
    ("SELECT t.nope FROM (SELECT 1 AS a) AS t", "Name nope not found inside t at [1:10]"),
    ("SELECT STRUCT(1 AS a).b", "Field name b does not exist in STRUCT<a INT64>"),
    ("SELECT @missing", "Query parameter 'missing' not found at [1:8]"),
    ("SELECT FROM", "Syntax error"),
    ("SELECT 'open", "Syntax error"),
    ("selec 1", "Syntax error"),
    ("", "Syntax error"),
    ("SELECT a FROM (SELECT 1 AS a) AS x, (SELECT 2 AS a) AS y", "Column name a is ambiguous"),
    ("SELECT LENGTH(5)", "No matching signature for function LENGTH for argument types: INT64"),
    ("SELECT 1 + 'a'", "No matching signature for operator +"),
    ("SELECT 1 UNION ALL SELECT 1, 2", "mismatched column count"),
    ("SELECT 1 AS a, 2 AS a", "Duplicate column names in the result are not supported. Found duplicate(s): a"),
    ("SELECT a FROM UNNEST([1]) AS a GROUP BY 5", "out of range"),
    ("SELECT * FROM UNNEST(5)", "Values referenced in UNNEST must be arrays"),
    ("SELECT 1 FROM nowhere", 'Table "nowhere" must be qualified with a dataset'),
    ("SELECT a FROM UNNEST([1]) AS a WHERE a", "No matching signature for WHERE clause"),
    ("SELECT DATE '2024-99'", "Invalid date"),
]

UNFILTERED = over_pings("SELECT sample_id FROM pings WHERE ")
EVERY_DAY = (
    "TRUE",
    "sample_id < 5",
    "submission_timestamp IS NOT NULL",
    "EXTRACT(YEAR FROM submission_timestamp) = 2026",
)
WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "(",
    ")",
    ",",
    ".",
    "*",
    "'a'",
    "1",
    "x",
    "@p",
    "UNNEST",
    "[",
    "]",
    "AS",
    "GROUP",
    "BY",
    "-",
    "/",
    "`t`",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(seeded(tmp_path_factory))
    yield engine
    engine.close()


def refusal(engine: Engine, sql: str) -> BigQueryError:
    with pytest.raises(BigQueryError) as caught:
        engine.plan(sql, "p", {})
    return caught.value


def assert_names(error: BigQueryError, named: str) -> None:
    assert error.reason == "invalidQuery"
    assert re.search(named, error.message)


@pytest.mark.parametrize(("expression", "named"), REFUSED)
def test_an_expression_is_refused_by_name(engine: Engine, expression: str, named: str) -> None:
    assert_names(refusal(engine, f"SELECT {expression}"), named)


@pytest.mark.parametrize(("sql", "named"), REFUSED_STATEMENTS)
def test_a_statement_is_refused_by_name(engine: Engine, sql: str, named: str) -> None:
    assert_names(refusal(engine, sql), named)


@pytest.mark.parametrize(("sql", "words"), WRONG)
def test_a_wrong_query_is_described_in_bigquery_s_words(engine: Engine, sql: str, words: str) -> None:
    error = refusal(engine, sql)
    assert error.status == 400
    assert words in error.message


def test_a_table_without_a_partition_filter_is_refused(engine: Engine) -> None:
    for condition in EVERY_DAY:
        error = refusal(engine, UNFILTERED + condition)
        assert "without a filter over column(s) 'submission_timestamp'" in error.message


def test_an_unknown_table_is_not_found(engine: Engine) -> None:
    error = refusal(engine, "SELECT 1 FROM `some-project.d.t`")
    assert (error.status, error.reason) == (404, "notFound")
    assert error.message == "Not found: Table some-project:d.t was not found in location US"


def test_a_query_too_deep_or_too_long_is_refused_not_a_crash(engine: Engine) -> None:
    assert refusal(engine, "SELECT " + "(" * 5_000 + "1" + ")" * 5_000).status == 400
    assert "too large" in refusal(engine, f"SELECT '{'x' * 1_000_001}'").message


@settings(max_examples=rounds(40), deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_no_text_makes_it_crash(engine: Engine, words: list[str]) -> None:
    with contextlib.suppress(BigQueryError):
        engine.plan(" ".join(words), "p", {})
