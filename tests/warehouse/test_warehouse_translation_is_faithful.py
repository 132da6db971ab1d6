"""The warehouse's answers equal BigQuery's: they are compared with those of Google's reference engine."""

import importlib.util
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pytest

from tests.support.googlesql import GoogleSql
from tests.support.reference_engine import Type
from tests.support.remembered import RefusedError
from tests.support.warehouse_support import seeded
from tests.warehouse.test_warehouse_changes_tables import STATEMENTS
from usage_service.shared.bigquery.statement import Statement
from warehouse.engine import Engine
from warehouse.errors import BigQueryError

TEXT = Path(__file__).with_name("warehouse_faithful.sql").read_text(encoding="utf-8")
ANSWERED, FAILING = ([line for line in part.splitlines()[1:] if line] for part in TEXT.split("-- fails: "))
A_QUERY = 40
needs_reference = pytest.mark.skipif(
    importlib.util.find_spec("zetasql") is None, reason="zetasql, the reference engine, is not installed"
)
pytestmark = pytest.mark.timeout(300)  # the first run on a machine compiles the engine

Answer = int | float | str | bool | None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(seeded(tmp_path_factory))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference() -> GoogleSql:
    columns: dict[str, Type] = {"k": "INT64", "v": "STRING", "l": ["INT64"]}
    return GoogleSql(dict.fromkeys(("glam_etl.t", "glam_etl.t_new"), columns))


def answers(engine: Engine, expressions: Sequence[str]) -> list[Answer]:
    """Return the warehouse's values; raise ValueError for an error of the query's own, BigQueryError for a refusal."""
    try:
        plan = engine.plan(select(expressions), "p", {})
        with engine.cursor() as cursor:
            [found] = cursor.execute(plan.translation.sql).fetchall()
    except BigQueryError as error:
        if "cannot translate" in error.message:
            raise
        raise ValueError(error.message) from error
    except duckdb.Error as error:
        raise ValueError(str(error)) from error
    return list(found)


def answer(engine: Engine, expression: str) -> Answer:
    """Return the warehouse's value of one expression; raise errors as `answers` does."""
    return answers(engine, [expression])[0]


def expected(reference: GoogleSql, expressions: Sequence[str]) -> list[Answer]:
    """Return the reference engine's values."""
    [found] = reference.evaluate(Statement("many", select(expressions), ()), [])
    return list(found.values())


def select(expressions: Sequence[str]) -> str:
    """Return a query with a column for each expression."""
    return "SELECT " + ", ".join(f"{text} AS f{number}" for number, text in enumerate(expressions))


@needs_reference
def test_every_expression_has_the_reference_engine_s_value(engine: Engine, reference: GoogleSql) -> None:
    assert len(ANSWERED) > 300
    for first in range(0, len(ANSWERED), A_QUERY):
        texts = ANSWERED[first : first + A_QUERY]
        found = zip(texts, expected(reference, texts), answers(engine, texts), strict=True)
        assert [row for row in found if not agree(*row[1:])] == []


@needs_reference
def test_what_the_reference_engine_refuses_to_answer_fails_here(engine: Engine, reference: GoogleSql) -> None:
    assert len(FAILING) > 30
    for text in FAILING:
        with pytest.raises(RefusedError, match=r"."):
            expected(reference, [text])
        with pytest.raises(ValueError, match=r"."):
            answer(engine, text)


def agree(wanted: Answer, found: Answer) -> bool:
    """Return whether both are the same value of the same type."""
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
        ("IF(FALSE, STRUCT(1 AS a, 'x' AS b), STRUCT(2, 'y')).b", "y"),
        ("IF(FALSE, STRUCT(1 AS a, 2 AS b), STRUCT(3 AS b, 4 AS a)).a", 3),
        ("LENGTH(CHR(0))", 1),
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


@needs_reference
def test_the_statements_that_change_tables_are_bigquery_s_own(reference: GoogleSql) -> None:
    for sql in STATEMENTS:
        quoted = re.sub(r"`?\bglam_etl\.(\w+)`?", r"`glam_etl.\1`", sql)
        reference.check_change(Statement("change", quoted, ()))
