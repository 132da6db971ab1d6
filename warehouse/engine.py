"""DuckDB, locked down: it can read the warehouse's one file, and has no access to any other part of the machine."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from warehouse.catalogue import load
from warehouse.errors import BigQueryError, invalid_query
from warehouse.queries import query, render
from warehouse.translation.translate import Translation, translate

if TYPE_CHECKING:
    from warehouse.parameters import Parameter
    from warehouse.schema import Type

MIB = 1024 * 1024
MINIMUM_BILLED = 10 * MIB
# A statement is planned for its estimate and again for its run; translating it is ten elevenths of that time.
TRANSLATIONS = 32


@dataclass(frozen=True)
class Plan:
    """A translated query and the logical bytes that BigQuery would process and bill for it."""

    translation: Translation
    parameters: dict[str, Parameter]
    bytes_processed: int
    bytes_billed: int


class Engine:
    """One DuckDB for all jobs; every job has a cursor of its own, so that it can be interrupted alone.

    The constructor opens the file that `seed` wrote and raises FileNotFoundError when there is none.
    """

    def __init__(self, path: Path, *, memory_limit: str = "2GB", threads: int = 2, spill_limit: str = "10GB") -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: seed the warehouse first")
        # DuckDB makes the directory when it first spills, so a killed server seldom leaves one behind.
        self.spill_directory = Path(tempfile.gettempdir()) / f"warehouse-spill-{uuid.uuid4()}"
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": str(self.spill_directory),
            "max_temp_directory_size": spill_limit,
        }
        self._connection = duckdb.connect(":memory:", config=config)
        self._connection.execute(query("engine", "attach"), [str(path)])
        self._connection.execute(render("macros"))
        self._connection.execute(query("engine", "lock_down"))
        self.catalogue = load(self._connection)
        self._translated = lru_cache(TRANSLATIONS)(self._translate)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection to the database."""
        return self._connection.cursor()

    def close(self) -> None:
        """Close the database and remove what it spilled; cursors in use fail."""
        self._connection.close()
        shutil.rmtree(self.spill_directory, ignore_errors=True)

    def plan(self, text: str, project: str, parameters: dict[str, Parameter]) -> Plan:
        """Translate a query, have DuckDB check its names and types, and estimate its bytes, without running it."""
        kinds = sorted((name, parameter.type) for name, parameter in parameters.items())
        translation = self._translated(text, project, tuple(kinds))
        used = {name: parameters[name] for name in translation.parameters}
        with self.cursor() as cursor:
            _check(cursor, translation, used)
            processed = sum(_scan_bytes(cursor, translation, used))
        tables = len({(s.table.project, s.table.dataset, s.table.name) for s in translation.scans})
        whole = -(-processed // MIB) * MIB
        return Plan(translation, used, processed, max(whole, MINIMUM_BILLED * tables))

    def _translate(self, text: str, project: str, kinds: tuple[tuple[str, Type], ...]) -> Translation:
        return translate(text, project, self.catalogue, dict(kinds))


def bound(parameters: dict[str, Parameter], sql: str) -> dict[str, object]:
    """Return the values of the parameters that the SQL names: DuckDB refuses any others."""
    named = set(re.findall(r"\$(\w+)", sql))
    return {name: parameter.value for name, parameter in parameters.items() if name in named}


def _check(cursor: duckdb.DuckDBPyConnection, translation: Translation, parameters: dict[str, Parameter]) -> None:
    try:
        cursor.execute(f"DESCRIBE {translation.sql}", bound(parameters, translation.sql))
    except duckdb.Error as error:
        raise as_bigquery(error) from error


def _scan_bytes(
    cursor: duckdb.DuckDBPyConnection, translation: Translation, parameters: dict[str, Parameter]
) -> list[int]:
    sizes = []
    for scan in translation.scans:
        days = _days(cursor, sorted(scan.table.days), scan.condition, parameters)
        sizes.append(scan.table.bytes(set(scan.leaves), days))
    return sizes


def _days(
    cursor: duckdb.DuckDBPyConnection, days: list[dt.date], condition: str, parameters: dict[str, Parameter]
) -> set[dt.date]:
    named = bound(parameters, condition)
    rows = cursor.execute(render("days", condition=condition), named | {"bq_days": days}).fetchall()
    return {day for (day,) in rows}


def as_bigquery(error: duckdb.Error) -> BigQueryError:
    """Return the BigQuery error that stands for a DuckDB error."""
    message = str(error).split("\n\n")[0].split("\nLINE ")[0]
    message = re.sub(r"^[A-Za-z /]+ Error: ", "", message)
    if isinstance(error, duckdb.InterruptException):
        return BigQueryError("stopped", "Job execution was cancelled: User requested cancellation")
    if isinstance(error, duckdb.OutOfMemoryException):
        return BigQueryError("resourcesExceeded", "Resources exceeded during query execution: out of memory")
    if isinstance(error, duckdb.IOException):  # such as no space for what is spilled: not the query's mistake
        return BigQueryError("backendError", message)
    if "Division by zero" in message:
        return invalid_query(re.sub(r"Division by zero in expression \((.*)\)\..*", r"division by zero: \1", message))
    if "Overflow in" in message or "destination type INT64" in message:
        return invalid_query(f"int64 overflow: {message}")
    return invalid_query(message)
