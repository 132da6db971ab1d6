"""Every statement of a `.sql` file has a name and a reason, and its database can prepare it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import builder
import usage_service
from tests.support.servers import Connection
from usage_service.queries import query
from usage_service.shared.postgres import connect
from usage_service.shared.queries import load_queries

ROOMS = {"usage_server": Path(usage_service.__file__).parent, "usage_builder": Path(builder.__file__).parent}
OF_SQLITE = ROOMS["usage_server"] / "imports" / "sql" / "state.sql"
TEMPLATES = [  # of BigQuery
    *(ROOMS["usage_builder"] / room / "sql" for room in ("aggregates", "sinks")),
    *(ROOMS["usage_server"] / room / "sql" for room in ("log", "mirror")),
]
FILES = [
    pytest.param(role, path, id=str(path.relative_to(room.parent)))
    for role, room in ROOMS.items()
    for path in sorted(room.rglob("sql/*.sql"))
    if path.parent not in TEMPLATES and path != OF_SQLITE
]
ONE_MESSAGE = {"begin", "complete", "complete_shared"}  # of two statements each, which are sent together


def test_a_file_is_read_by_names(tmp_path: Path) -> None:
    path = tmp_path / "some.sql"
    path.write_text("-- one: why.\n-- More of it.\nSELECT 1;\n\n-- two: why not.\nSELECT 2\n  -- inside\n  + 2;\n")
    assert load_queries(path) == {"one": "-- More of it.\nSELECT 1", "two": "SELECT 2\n  -- inside\n  + 2"}


def test_a_statement_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.sql"
    path.write_text("SELECT 0;\n-- one: why.\nSELECT 1;\n")
    with pytest.raises(ValueError, match="before the first name"):
        load_queries(path)


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.sql"
    path.write_text("-- one: why.\nSELECT 1;\n-- one: again.\nSELECT 2;\n")
    with pytest.raises(ValueError, match="one"):
        load_queries(path)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        query("health", "nonsense")


def test_every_folder_of_statements_is_covered() -> None:
    folders = {Path(str(param.id)).parent.as_posix() for param in FILES}
    assert {"usage_service/sql", "builder/sql"} <= folders


@pytest.mark.parametrize(("role", "path"), FILES)
async def test_every_statement_can_be_prepared_by_the_server(
    role: str, path: Path, database: Connection, database_url: str
) -> None:
    statements = load_queries(path)
    assert statements
    connection = await connect(database_url, role=role, application="tests")
    try:
        for name, text in statements.items():
            parts = text.split(";") if name in ONE_MESSAGE else [text]
            for part in parts:
                assert (await connection.prepare(part)).get_query() == part, name
    finally:
        await connection.close()


def test_every_statement_of_an_imports_state_can_be_prepared_by_sqlite() -> None:
    statements = load_queries(OF_SQLITE)
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(statements["make"])
        for text in statements.values():
            for part in text.split(";"):
                database.execute(f"EXPLAIN {part}", [None] * part.count("?"))
