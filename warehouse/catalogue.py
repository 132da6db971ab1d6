"""The catalogue of the tables: their definitions, their day partitions and the bytes in each."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from warehouse.definitions import Definition, Resource, TableName, fields_of
from warehouse.errors import BigQueryError
from warehouse.queries import query
from warehouse.schema import Path, Type, from_duckdb

if TYPE_CHECKING:
    import duckdb

SAMPLE, WRITTEN = "store", "tables"
Day = dt.date | None
EXPIRATION = "expirationTime"


@dataclass(frozen=True)
class Sizes:
    """The bytes of each leaf column of a table by day; None is the partition of rows whose day is NULL.

    A table without partitions has one day that stands for them all.
    """

    leaf_bytes: dict[Path, dict[Day, int]]

    @property
    def days(self) -> list[Day]:
        """Return the days that have a partition."""
        return sorted({day for sizes in self.leaf_bytes.values() for day in sizes}, key=lambda day: day or dt.date.min)

    def bytes(self, leaves: set[Path], days: set[Day]) -> int:
        """Return the logical bytes of some leaf columns in the partitions of some days."""
        return sum(size for leaf in leaves for day, size in self.leaf_bytes[leaf].items() if day in days)


@dataclass(frozen=True, eq=False)
class Table:
    """A table: its name in BigQuery, the DuckDB database that it is in, its definition and the type of its rows."""

    name: TableName
    definition: Definition
    schema: Type
    database: str = WRITTEN
    created: float = field(default_factory=time.time)

    @property
    def partition_column(self) -> str | None:
        """Return the column that the table is partitioned by, or None."""
        return self.definition.partition_column

    @property
    def expired(self) -> bool:
        """Return whether the time is over that the table was made for."""
        return int(self.definition.other.get(EXPIRATION) or 2**63) <= time.time() * 1000

    def require_writable(self) -> None:
        """Raise `accessDenied` for a table of the sample."""
        if self.database == SAMPLE:
            raise BigQueryError("accessDenied", f"Access Denied: {self.name} is part of the sample, which is read only")
        if self.definition.view:
            raise BigQueryError("invalid", f"{self.name} is not allowed for this operation because it is a view")


class Catalogue:
    """The tables and datasets by name.

    A table is another object after its definition has changed, so that translations of before can be told.
    """

    def __init__(self, tables: list[Table], sizes: dict[TableName, Sizes] | None = None) -> None:
        self._tables = {table.name: table for table in tables}
        self._sizes = sizes or {}
        self._revisions: dict[TableName, int] = {}
        self._datasets: dict[tuple[str, str], Resource] = {
            (project, dataset): {} for project, dataset, _ in self._tables
        }

    def find(self, project: str, dataset: str, name: str) -> Table:
        """Return the table; raise BigQuery's notFound when there is none of that name."""
        found = self.get(TableName(project, dataset, name))
        if found is None:
            raise BigQueryError("notFound", f"Not found: Table {project}:{dataset}.{name} was not found in location US")
        return found

    def get(self, name: TableName) -> Table | None:
        """Return the table, or None when there is none of that name or its time is over."""
        found = self._tables.get(name)
        return None if found is None or found.expired else found

    def dataset(self, project: str, dataset: str) -> Resource:
        """Return what was said of a dataset when it was made; raise notFound when there is none of that name."""
        found = self._datasets.get((project, dataset))
        if found is None:
            raise BigQueryError("notFound", f"Not found: Dataset {project}:{dataset} was not found in location US")
        return found

    def datasets(self, project: str) -> list[str]:
        """Return the names of a project's datasets, sorted."""
        return sorted(dataset for owner, dataset in self._datasets if owner == project)

    def tables(self, project: str, dataset: str) -> list[Table]:
        """Return the tables of a dataset, sorted by name."""
        mine = [t for t in self._tables.values() if t.name[:2] == (project, dataset) and not t.expired]
        return sorted(mine, key=lambda table: table.name)

    def sizes(self, table: Table) -> Sizes | None:
        """Return the sizes of a table; None when they have to be summed anew."""
        return self._sizes.get(table.name)

    def revision(self, table: Table) -> int:
        """Return a number that is another one after each change of a table."""
        return self._revisions.get(table.name, 0)

    def set_sizes(self, table: Table, sizes: Sizes, revision: int) -> None:
        """Keep the sizes of a table until it changes; forget them if it has since the revision that they are of."""
        self._sizes[table.name] = sizes
        if self.revision(table) != revision:
            self._sizes.pop(table.name, None)

    def changed(self, name: TableName) -> None:
        """Forget the sizes of a table whose rows have changed."""
        self._revisions[name] = self._revisions.get(name, 0) + 1
        self._sizes.pop(name, None)

    def put(self, table: Table) -> None:
        """Add a table, or replace the one of its name."""
        self._tables[table.name] = table
        self.changed(table.name)

    def remove(self, name: TableName) -> None:
        """Remove a table."""
        self._tables.pop(name, None)
        self.changed(name)

    def put_dataset(self, project: str, dataset: str, resource: Resource) -> None:
        """Add a dataset."""
        self._datasets[project, dataset] = resource

    def remove_dataset(self, project: str, dataset: str) -> None:
        """Remove a dataset that has no tables."""
        self._datasets.pop((project, dataset), None)


def load(connection: duckdb.DuckDBPyConnection) -> Catalogue:
    """Read the catalogue of the attached database `store`."""
    tables, sizes = [], {}
    for project, dataset, name, partition in connection.execute(query("catalogue", "tables")).fetchall():
        table = _load(connection, TableName(project, dataset, name), partition)
        tables.append(table)
        sizes[table.name] = _load_sizes(connection, table)
    return Catalogue(tables, sizes)


def _load(connection: duckdb.DuckDBPyConnection, name: TableName, partition: str | None) -> Table:
    relation = connection.table(relation_name(SAMPLE, name))
    schema = Type("STRUCT", fields=dict(zip(relation.columns, map(from_duckdb, relation.types), strict=True)))
    partitioning = {"type": "DAY", "field": partition} if partition else None
    definition = Definition(fields_of(schema), partitioning, requires_filter=partition is not None)
    return Table(name, definition, schema, SAMPLE)


def _load_sizes(connection: duckdb.DuckDBPyConnection, table: Table) -> Sizes:
    leaf_bytes: dict[Path, dict[Day, int]] = {path: {} for path, _ in table.schema.leaves()}
    for leaf, day, size in connection.execute(query("catalogue", "leaf_bytes"), [*table.name]).fetchall():
        leaf_bytes[tuple(leaf)][day] = size
    return Sizes(leaf_bytes)


def relation_name(database: str, name: TableName) -> str:
    """Return the name that a table has in DuckDB, whose schemas are named after project and dataset."""
    project, dataset, table = name
    return f'{database}."{project}.{dataset}"."{table}"'
