"""No query reaches the machine behind the warehouse: the allow-list refuses it, and DuckDB alone would as well."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from tests.support.warehouse_support import seeded
from warehouse.cli import app
from warehouse.engine import Engine
from warehouse.errors import BigQueryError

OUTSIDE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "COPY (SELECT 1) TO '{directory}/copied.csv'",
    "EXPORT DATABASE '{directory}/exported'",
    "ATTACH '{directory}/other.duckdb' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SET GLOBAL enable_external_access = true",
    "RESET lock_configuration",
    "CREATE TABLE store.about.mine (a INT)",
    "DELETE FROM store.about.tables",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(seeded(tmp_path_factory))
    yield engine
    engine.close()


@pytest.mark.parametrize("sql", OUTSIDE)
def test_the_allow_list_refuses_it(engine: Engine, sql: str) -> None:
    with pytest.raises(BigQueryError):
        engine.plan(sql, "p", {})


@pytest.mark.parametrize("sql", OUTSIDE)
def test_duckdb_refuses_it(engine: Engine, sql: str, tmp_path: Path) -> None:
    with engine.cursor() as cursor, pytest.raises(duckdb.Error):
        cursor.execute(sql.replace("{directory}", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "table", ["about.tables", "`store.about.tables`", "duckdb_settings", "information_schema.tables"]
)
def test_duckdb_s_own_tables_are_not_in_the_catalogue(engine: Engine, table: str) -> None:
    with pytest.raises(BigQueryError, match=r"Not found: Table|must be qualified"):
        engine.plan(" ".join(["SELECT 1 FROM", table]), "p", {})


def test_results_of_other_jobs_cannot_be_named(engine: Engine) -> None:
    with engine.cursor() as cursor:
        cursor.execute("CREATE TABLE bq_result_1 AS SELECT 'secret' AS a")
    for name in ("bq_result_1", "main.bq_result_1", "bq_scan_0"):
        with pytest.raises(BigQueryError):
            engine.plan(" ".join(["SELECT a FROM", name]), "p", {})


def test_a_query_larger_than_memory_fails_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    small = Engine(seeded(tmp_path_factory), memory_limit="30MB", threads=1, spill_limit="1MB")
    plan = small.plan("SELECT ARRAY_LENGTH(ARRAY_AGG(x)) AS n FROM UNNEST(GENERATE_ARRAY(1, 5000000)) AS x", "p", {})
    with small.cursor() as cursor, pytest.raises(duckdb.OutOfMemoryException):
        cursor.execute(plan.translation.sql)
    spilled = small.spill_directory
    small.close()
    assert not spilled.exists()


def test_it_listens_on_the_loopback_unless_told_otherwise_and_then_warns(tmp_path: Path) -> None:
    quiet = CliRunner().invoke(app, ["serve", "--data-dir", str(tmp_path)])
    assert "warehouse_is_open" not in quiet.output
    warned = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path)])
    assert "warehouse_is_open" in warned.output
