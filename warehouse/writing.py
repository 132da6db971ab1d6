"""Changes of the tables that clients write, each in one transaction of DuckDB: it happens wholly or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from warehouse.catalogue import WRITTEN, Catalogue, Table, relation_name
from warehouse.definitions import (
    Definition,
    Resource,
    TableName,
    as_object,
    define,
    invalid,
    read_definition,
    read_fields,
)
from warehouse.errors import BigQueryError, invalid_query
from warehouse.queries import query, render
from warehouse.schema import Type, to_duckdb
from warehouse.translation.storing import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb

# As long as BigQuery itself remembers jobs.
JOB_SECONDS = 180 * 24 * 3600
# https://cloud.google.com/bigquery/quotas#partitioned_tables
PARTITIONS_A_JOB, PARTITIONS_A_TABLE = 4_000, 10_000


class Disposition(StrEnum):
    """What becomes of the rows that a destination has already."""

    TRUNCATE = "WRITE_TRUNCATE"
    APPEND = "WRITE_APPEND"
    EMPTY = "WRITE_EMPTY"


@dataclass(frozen=True)
class Destination:
    """A table that a job writes to, and how; `layout` is what the job says of the table, as in a Table resource."""

    name: TableName
    disposition: Disposition
    create: bool
    layout: Resource

    @property
    def fields(self) -> list[Resource]:
        """Return the fields that the job gives the table, none where those of its rows are taken."""
        return read_fields(as_object(self.layout, "schema").get("fields") or [])


@dataclass(frozen=True)
class Counts:
    """The rows that a statement of DML has inserted, updated and deleted."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def affected(self) -> int:
        """Return the number of all of them."""
        return self.inserted + self.updated + self.deleted


class Change:
    """One transaction on the tables that clients write; the catalogue follows once it is committed."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
        self.cursor = cursor
        self._catalogue = catalogue
        self._afterwards: list[Callable[[], None]] = []

    def committed(self) -> None:
        """Bring the catalogue up to date."""
        for step in self._afterwards:
            step()

    def table(self, name: TableName) -> Table | None:
        """Return the table, or None when there is none of that name."""
        return self._catalogue.get(name)

    def create_dataset(self, project: str, dataset: str, resource: Resource) -> None:
        """Make a dataset; raise `duplicate` when there is one of that name."""
        if dataset in self._catalogue.datasets(project):
            raise BigQueryError("duplicate", f"Already Exists: Dataset {project}:{dataset}")
        self.cursor.execute(query("tables", "add_dataset"), [project, dataset, json.dumps(resource)])
        self._afterwards.append(lambda: self._catalogue.put_dataset(project, dataset, resource))

    def drop_dataset(self, project: str, dataset: str, *, with_tables: bool) -> None:
        """Drop a dataset of a client's; raise BigQueryError when it has tables that are not to be dropped too."""
        self._catalogue.dataset(project, dataset)
        tables = self._catalogue.tables(project, dataset)
        for table in tables:
            if not table.definition.view:
                table.require_writable()
        if tables and not with_tables:
            raise BigQueryError("resourceInUse", f"Dataset {project}:{dataset} is still in use")
        for table in tables:
            self.drop(table.name)
        self.cursor.execute(query("tables", "remove_dataset"), [project, dataset])
        self._afterwards.append(lambda: self._catalogue.remove_dataset(project, dataset))

    def create_new(self, name: TableName, definition: Definition) -> None:
        """Make an empty table; raise `duplicate` when there is one of that name."""
        if self._catalogue.get(name):
            raise BigQueryError("duplicate", f"Already Exists: Table {name}")
        if definition.view:
            self.put_view(name, definition)
        else:
            self.create(name, definition)

    def put_view(self, name: TableName, definition: Definition) -> None:
        """Make a view, in place of the one of its name."""
        self._catalogue.dataset(*name[:2])
        self._register(Table(name, definition, definition.type))

    def create(self, name: TableName, definition: Definition) -> Table:
        """Make an empty table, in place of one of its name."""
        self._catalogue.dataset(*name[:2])
        self._check_writable(name)
        table = Table(name, definition, definition.type)
        columns = [_column(key, kind, required=key in definition.required) for key, kind in table.schema.fields.items()]
        self.cursor.execute(
            render(
                "create_table",
                schema=f"{name[0]}.{name[1]}",
                table=relation_name(table.database, name),
                columns=", ".join(columns),
            )
        )
        self._register(table)
        return table

    def _register(self, table: Table) -> None:
        self.cursor.execute(query("tables", "remove_table"), [*table.name])
        resource = json.dumps(table.definition.resource())
        self.cursor.execute(query("tables", "add_table"), [*table.name, resource, table.created])
        self._afterwards.append(lambda: self._catalogue.put(table))

    def drop(self, name: TableName) -> None:
        """Drop a table; raise notFound when there is none of that name."""
        found = self._catalogue.find(*name)
        if not found.definition.view:
            found.require_writable()
            self.cursor.execute(render("drop_table", table=relation_name(WRITTEN, name)))
        self.cursor.execute(query("tables", "remove_table"), [*name])
        self._afterwards.append(lambda: self._catalogue.remove(name))

    def _check_writable(self, name: TableName) -> None:
        if table := self._catalogue.get(name):
            table.require_writable()

    def store(self, to: Destination, rows: str, row: Definition) -> int:
        """Write the rows of a relation, which are of that definition, to a destination; return how many."""
        self._catalogue.dataset(*to.name[:2])
        self._check_writable(to.name)
        found = self._catalogue.get(to.name)
        if found is None and not to.create:
            self._catalogue.find(*to.name)
        if found and to.disposition is Disposition.EMPTY and self.count(found):
            raise BigQueryError("duplicate", f"Already Exists: Table {to.name}")
        wanted = read_definition(to.layout | {"schema": {"fields": to.fields or row.fields}})
        if found and wanted.partitioning not in (None, found.definition.partitioning):
            raise invalid(f"Incompatible table partitioning specification for {to.name}")
        if found is None or to.disposition is Disposition.TRUNCATE:
            found = self.create(to.name, _replaced(found.definition, wanted) if found else wanted)
        else:
            check_same_schema(found, wanted)
        return self._append(found, rows, row)

    def _append(self, table: Table, rows: str, row: Definition) -> int:
        before = self.count(table) if table.partition_column else 0
        given = row.type.fields
        columns = [
            exp.alias_(stored(exp.column(name, quoted=True), given[name]), name, quoted=True).sql(DuckDB)
            for name in given
        ]
        for name, kind in table.schema.fields.items():
            if kind.repeated and row.type.child(name) is None:
                empty = exp.cast(exp.array(), to_duckdb(kind), dialect=DuckDB)
                columns.append(exp.alias_(empty, name, quoted=True).sql(DuckDB))
        target = relation_name(table.database, table.name)
        added = self.cursor.execute(render("append_rows", table=target, columns=", ".join(columns), rows=rows))
        number = int(added.fetchall()[0][0])
        self._check_partitions(table, before)
        self._afterwards.append(lambda: self._catalogue.changed(table.name))
        return number

    def _check_partitions(self, table: Table, before: int) -> None:
        """Raise BigQuery's error where the rows after so many are in too many partitions, or the table is."""
        column = table.partition_column
        if column is None:
            return
        written = render(
            "written_days", before=str(before), column=column, table=relation_name(table.database, table.name)
        )
        ((here, in_all),) = self.cursor.execute(written).fetchall()
        if here > PARTITIONS_A_JOB:
            raise BigQueryError(
                "invalid", f"Too many partitions produced by job, allowed {PARTITIONS_A_JOB}, job produces {here}"
            )
        if in_all > PARTITIONS_A_TABLE:
            raise BigQueryError(
                "quotaExceeded", f"Too many total partitions, {in_all}, the limit is {PARTITIONS_A_TABLE}"
            )

    def count(self, table: Table) -> int:
        """Return the number of a table's rows."""
        counted = self.cursor.execute(render("count_table", table=relation_name(table.database, table.name)))
        return int(counted.fetchall()[0][0])

    def apply(self, table: Table, changes: str, parameters: dict[str, object]) -> Counts:
        """Make the changes that a query lists, as a statement of DML translates to one; return how many."""
        self.cursor.execute(render("changes", query=changes), parameters)
        if self.cursor.execute(query("dml", "ambiguous")).fetchall():
            raise invalid_query("UPDATE/MERGE must match at most one source row for each target row")
        ((inserted, updated, deleted),) = self.cursor.execute(query("dml", "counts")).fetchall()
        self.cursor.execute(render("apply_changes", table=relation_name(table.database, table.name)))
        self.cursor.execute(query("dml", "drop_changes"))
        self._afterwards.append(lambda: self._catalogue.changed(table.name))
        return Counts(inserted, updated, deleted)

    def add_job(self, project: str, job_id: str, created: float, record: Resource) -> None:
        """Remember a job in the transaction in which it wrote, so that it is not run again under its id."""
        self.cursor.execute(query("tables", "expire_jobs"), [time.time() - JOB_SECONDS])
        self.cursor.execute(query("tables", "add_job"), [project, job_id, created, json.dumps(record)])


def _column(name: str, kind: Type, *, required: bool) -> str:
    return f'"{name}" {to_duckdb(kind)}{" NOT NULL" if required else ""}'


def _replaced(old: Definition, new: Definition) -> Definition:
    """Return the definition of a table whose rows and fields are replaced; partitioned and clustered, it stays so."""
    return define(
        new.fields,
        old.partitioning,
        new.clustering or old.clustering,
        requires_filter=old.requires_filter,
        other=old.other | new.other,
    )


def check_same_schema(table: Table, row: Definition) -> None:
    """Raise `invalid`, in BigQuery's words, for rows that do not fit in a table."""
    _check_fields(table, table.definition.fields, row.fields, "")


def _check_fields(table: Table, stored_fields: list[Resource], given: list[Resource], prefix: str) -> None:
    theirs = {str(f["name"]).lower(): f for f in given}
    for name in theirs.keys() - {str(f["name"]).lower() for f in stored_fields}:
        raise _mismatch(table, f"Cannot add fields (field: {prefix}{theirs[name]['name']})")
    for field in stored_fields:
        name = f"{prefix}{field['name']}"
        other = theirs.get(str(field["name"]).lower())
        if other is None and (field["mode"] == "REQUIRED" or prefix):
            raise _mismatch(table, f"Field {name} is missing in new schema")
        if other is None:
            continue
        if other["type"] != field["type"]:
            raise _mismatch(table, f"Field {name} has changed type from {field['type']} to {other['type']}")
        if other["mode"] != field["mode"] and (field["mode"], other["mode"]) != ("NULLABLE", "REQUIRED"):
            raise _mismatch(table, f"Field {name} has changed mode from {field['mode']} to {other['mode']}")
        _check_fields(table, field.get("fields") or [], other.get("fields") or [], f"{name}.")


def _mismatch(table: Table, what: str) -> BigQueryError:
    return BigQueryError("invalid", f"Provided Schema does not match Table {table.name}. {what}")
