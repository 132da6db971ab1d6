"""DuckDB, locked down: it reads the sample's file, writes that of the clients' tables, and no other."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from sqlglot.dialects.duckdb import DuckDB

from warehouse.catalogue import WRITTEN, Day, Sizes, Table, load, relation_name
from warehouse.definitions import TableName, read_definition
from warehouse.errors import BigQueryError, WarehouseFileError, invalid_query
from warehouse.queries import query, render
from warehouse.translation.storing import leaf_size
from warehouse.translation.translate import Translation, translate
from warehouse.writing import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from warehouse.parameters import Parameter
    from warehouse.schema import Type

MIB = 1024 * 1024
MINIMUM_BILLED = 10 * MIB
# A statement is planned for its estimate and again for its run; translating it is ten elevenths of that time.
TRANSLATIONS = 32
TABLES = "tables.duckdb"


@dataclass(frozen=True)
class Plan:
    """A translated query and the logical bytes that BigQuery would process and bill for it."""

    translation: Translation
    parameters: dict[str, Parameter]
    bytes_processed: int
    bytes_billed: int


class Engine:
    """One DuckDB for all jobs; every job has a cursor of its own, so that it can be interrupted alone.

    The constructor opens the file that `seed` wrote, and beside it that of the tables that clients wrote, which is made
    by the first change. It raises WarehouseFileError when there is no seed, or another process has the tables.
    """

    def __init__(
        self,
        path: Path,
        *,
        memory_limit: str = "2GB",
        threads: int = 2,
        spill_limit: str = "10GB",
        read_only: bool = False,
    ) -> None:
        if not path.is_file():
            raise WarehouseFileError(f"{path} does not exist: seed the warehouse first")
        self._tables_path = path.with_suffix(".tables") / TABLES
        self._read_only = read_only
        self._attached = False
        self._writing = threading.Lock()
        # DuckDB makes the directory when it first spills, so a killed server seldom leaves one behind.
        self.spill_directory = Path(tempfile.gettempdir()) / f"warehouse-spill-{uuid.uuid4()}"
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": str(self.spill_directory),
            "max_temp_directory_size": spill_limit,
        }
        self._connection = duckdb.connect(":memory:", config=config)
        try:
            self._connection.execute(query("engine", "attach"), [str(path)])
        except duckdb.Error as error:
            self._connection.close()
            raise _unopened(path, error, "remove it, and seed the warehouse again") from None
        self._connection.execute(render("macros"))
        self._connection.execute(query("engine", "allow"), [[f"{self._tables_path.parent.absolute()}/"]])
        self._connection.execute(query("engine", "lock_down"))
        self.catalogue = load(self._connection)
        self._translations: OrderedDict[object, Translation] = OrderedDict()
        if self._tables_path.exists():
            self._attach()

    def _attach(self) -> None:
        """Open the file of the clients' tables, and add them to the catalogue."""
        if self._attached:
            return
        try:
            self._tables_path.parent.mkdir(exist_ok=True)
            how = "attach_to_read" if self._read_only else "attach"
            self._connection.execute(query("tables", how), [str(self._tables_path.absolute())])
        except duckdb.Error as error:
            self.close()
            mend = "where another process has it, such as `make run`, stop that, or ask its warehouse (--url)"
            raise _unopened(self._tables_path, error, mend) from None
        if not self._read_only:
            self._connection.execute(render("tables_file"))
        for project, dataset, resource in self._connection.execute(query("tables", "datasets")).fetchall():
            self.catalogue.put_dataset(project, dataset, json.loads(resource))
        for *name, resource, created in self._connection.execute(query("tables", "tables")).fetchall():
            definition = read_definition(json.loads(resource))
            self.catalogue.put(Table(TableName(*name), definition, definition.type, WRITTEN, created))
        self._attached = True

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Yield a change of the clients' tables that is committed at the end, or undone by an error; one at a time."""
        with self._writing:
            self._attach()
            with self.cursor() as cursor:
                change = Change(cursor, self.catalogue)
                cursor.begin()
                try:
                    yield change
                    cursor.commit()
                except BaseException:
                    cursor.rollback()
                    raise
                change.committed()

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
        translation = self._translate(text, project, tuple(kinds))
        used = {name: parameters[name] for name in translation.parameters}
        with self.cursor() as cursor:
            _check(cursor, translation, used)
            processed = sum(self._scan_bytes(cursor, translation, used))
        tables = len({scan.table.name for scan in translation.scans})
        whole = -(-processed // MIB) * MIB
        return Plan(translation, used, processed, max(whole, MINIMUM_BILLED * tables))

    def job(self, project: str, job_id: str) -> dict[str, Any] | None:
        """Return the record of a job that wrote, or None when there is none of that id."""
        if not self._attached:
            return None
        with self.cursor() as cursor:
            found = cursor.execute(query("tables", "job"), [project, job_id]).fetchall()
        return json.loads(found[0][0]) if found else None

    def jobs(
        self, project: str, oldest: float, newest: float, after: tuple[float, str], count: int
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return ids and records of a project's jobs that wrote, created between two times, the newest first."""
        if not self._attached:
            return []
        with self.cursor() as cursor:
            found = cursor.execute(query("tables", "jobs"), [project, oldest, newest, *after, count]).fetchall()
        return [(job_id, json.loads(record)) for job_id, record in found]

    def _translate(self, text: str, project: str, kinds: tuple[tuple[str, Type], ...]) -> Translation:
        """Return the translation, kept from before unless a table of it has been replaced since."""
        key = (text, project, kinds)
        found = self._translations.pop(key, None)
        if found is None or any(self.catalogue.get(table.name) is not table for table in found.tables):
            found = translate(text, project, self.catalogue, dict(kinds))
        self._translations[key] = found
        while len(self._translations) > TRANSLATIONS:
            self._translations.popitem(last=False)
        return found

    def _scan_bytes(
        self, cursor: duckdb.DuckDBPyConnection, translation: Translation, parameters: dict[str, Parameter]
    ) -> list[int]:
        found = []
        for scan in translation.scans:
            sizes = self.sizes(cursor, scan.table)
            days = _days(cursor, sizes.days, scan.condition, parameters)
            found.append(sizes.bytes(set(scan.leaves), days))
        return found

    def sizes(self, cursor: duckdb.DuckDBPyConnection, table: Table) -> Sizes:
        """Return the bytes of a table by leaf column and day; those of a client's table are summed after a change."""
        found = self.catalogue.sizes(table)
        if found is None:
            revision = self.catalogue.revision(table)
            found = _summed(cursor, table)
            self.catalogue.set_sizes(table, found, revision)
        return found

    def count(self, cursor: duckdb.DuckDBPyConnection, table: Table) -> int:
        """Return the number of a table's rows."""
        rows = cursor.execute(render("count_table", table=relation_name(table.database, table.name))).fetchall()
        return int(rows[0][0])


def _unopened(path: Path, error: duckdb.Error, mend: str) -> WarehouseFileError:
    return WarehouseFileError(f"{path} cannot be opened: {str(error).splitlines()[0]}; {mend}")


def _summed(cursor: duckdb.DuckDBPyConnection, table: Table) -> Sizes:
    paths = [path for path, _ in table.schema.leaves()]
    sums = ", ".join(leaf_size(path, table.schema).sql(DuckDB) for path in paths)
    column = table.partition_column
    day = f'CAST("{column}" AS DATE)' if column else "DATE '1970-01-01'"
    statement = render("partition_sizes", day=day, sizes=sums, table=relation_name(table.database, table.name))
    rows = cursor.execute(statement).fetchall()
    return Sizes({path: {row[0]: int(row[place]) for row in rows} for place, path in enumerate(paths, 1)})


def bound(parameters: dict[str, Parameter], sql: str) -> dict[str, object]:
    """Return the values of the parameters that the SQL names: DuckDB refuses any others."""
    named = set(re.findall(r"\$(\w+)", sql))
    return {name: parameter.value for name, parameter in parameters.items() if name in named}


def _check(cursor: duckdb.DuckDBPyConnection, translation: Translation, parameters: dict[str, Parameter]) -> None:
    try:
        cursor.execute(f"DESCRIBE {translation.sql}", bound(parameters, translation.sql))
    except duckdb.Error as error:
        raise as_bigquery(error) from error


def _days(
    cursor: duckdb.DuckDBPyConnection, days: list[Day], condition: str, parameters: dict[str, Parameter]
) -> set[Day]:
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
    if isinstance(error, duckdb.ConstraintException) and (column := re.search(r"NOT NULL .*\.(\w+)$", message)):
        return invalid_query(f"Required field {column[1]} cannot be null")
    if "Division by zero" in message:
        return invalid_query(re.sub(r"Division by zero in expression \((.*)\)\..*", r"division by zero: \1", message))
    if "Overflow in" in message or "destination type INT64" in message:
        return invalid_query(f"int64 overflow: {message}")
    return invalid_query(message)
