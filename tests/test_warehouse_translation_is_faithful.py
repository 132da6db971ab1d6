"""What the warehouse answers is what BigQuery would: compared with Google's reference engine."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from builder.statement import Statement
from builder.warehouse.engine import Engine
from builder.warehouse.errors import BigQueryError
from tests.googlesql import GoogleSql
from tests.warehouse_support import seeded

LINES = Path(__file__).with_name("warehouse_faithful.sql").read_text(encoding="utf-8").splitlines()
EXPRESSIONS = [line for line in LINES if line and not line.startswith("-- ")]
HAS_REFERENCE = importlib.util.find_spec("zetasql") is not None

Answer = int | float | str | bool | None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(seeded(tmp_path_factory))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference() -> GoogleSql:
    return GoogleSql()


def answer(engine: Engine, expression: str) -> Answer:
    """The warehouse's value; ValueError for an error of the query's own, BigQueryError for a refusal."""
    try:
        plan = engine.plan(f"SELECT {expression} AS f", "p", {})
        with engine.cursor() as cursor:
            found = cursor.execute(plan.translation.sql).fetchall()[0][0]
    except BigQueryError as error:
        if "cannot translate" in error.message:
            raise
        raise ValueError(error.message) from error
    except duckdb.Error as error:
        raise ValueError(str(error)) from error
    assert found is None or isinstance(found, int | float | str | bool)
    return found


def expected(reference: GoogleSql, expression: str) -> Answer:
    """The reference engine's value; ValueError for its errors, of which zetasql has no common class."""
    try:
        found = reference.evaluate(Statement("one", f"SELECT {expression} AS f", ()), [])[0]["f"]
    except Exception as error:
        raise ValueError(str(error)) from error
    assert found is None or isinstance(found, int | float | str | bool)
    return found


@pytest.mark.skipif(not HAS_REFERENCE, reason="zetasql, the reference engine, is not installed")
@pytest.mark.timeout(300)
def test_every_expression_has_the_reference_engine_s_value(engine: Engine, reference: GoogleSql) -> None:
    assert len(EXPRESSIONS) > 250
    assert [text for text in EXPRESSIONS if not agrees(engine, reference, text)] == []


def agrees(engine: Engine, reference: GoogleSql, expression: str) -> bool:
    """Whether both have the same value of the same type, or both an error."""
    try:
        wanted = expected(reference, expression)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            answer(engine, expression)
        return True
    found = answer(engine, expression)
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(wanted, found, rel_tol=1e-15)
    return type(wanted) is type(found) and wanted == found


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("CAST(2.5 AS INT64)", 3),
        ("CAST(-2.5 AS INT64)", -3),
        ("[10, 20][OFFSET(1)]", 20),
        ("-8 >> 1", 9223372036854775804),
        ("EXTRACT(DAYOFWEEK FROM DATE '2024-01-07')", 1),
        ("SAFE_CAST('1.5' AS INT64)", None),
        ("CONCAT('a', NULL)", None),
        ("GREATEST(1, NULL)", None),
        ("REGEXP_EXTRACT('abc', r'^([0-9]+)')", None),
        ("SUBSTR('hello', -10, 2)", "he"),
        ("LOG(8)", math.log(8)),
        ("TIMESTAMP_DIFF(TIMESTAMP '2024-01-02', TIMESTAMP '2024-01-01 00:30:00', HOUR)", 23),
        ("(SELECT o FROM UNNEST(['a', 'b']) AS x WITH OFFSET AS o WHERE x = 'b')", 1),
        ("(SELECT x FROM UNNEST([2, NULL, 1]) AS x ORDER BY x LIMIT 1)", None),
        ("(SELECT COUNTIF(x > 1) FROM UNNEST([1]) AS x WHERE FALSE)", 0),
    ],
)
def test_the_silent_differences_of_duckdb_are_bridged(engine: Engine, expression: str, value: Answer) -> None:
    assert answer(engine, expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "1 / 0",
        "DIV(1, 0)",
        "MOD(1, 0)",
        "[1][OFFSET(1)]",
        "[1][ORDINAL(0)]",
        "9223372036854775807 + 1",
        "(SELECT SUM(x) FROM UNNEST([9223372036854775807, 1]) AS x)",
        "CAST('1.5' AS INT64)",
        "CAST(1e30 AS INT64)",
        "LN(0)",
        "POW(10.0, 400)",
        "SUBSTR('abc', 1, -1)",
        "'1' = 1",
    ],
)
def test_what_fails_in_bigquery_fails_here(engine: Engine, expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        answer(engine, expression)
