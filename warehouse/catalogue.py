"""The catalogue of the tables: their columns, their day partitions and the bytes in each."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse.errors import BigQueryError
from warehouse.queries import query
from warehouse.schema import Path, Type, from_duckdb

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Table:
    """A table: its name in BigQuery, its schema, and the bytes of each leaf column and day.

    A table without partitions has no `partition_column`, and one day that stands for them all.
    """

    project: str
    dataset: str
    name: str
    partition_column: str | None
    schema: Type
    leaf_bytes: dict[Path, dict[dt.date, int]]

    @property
    def days(self) -> set[dt.date]:
        """Return the days that have a partition."""
        return {day for sizes in self.leaf_bytes.values() for day in sizes}

    def bytes(self, leaves: set[Path], days: set[dt.date]) -> int:
        """Return the logical bytes of some leaf columns in the partitions of some days."""
        return sum(size for leaf in leaves for day, size in self.leaf_bytes[leaf].items() if day in days)


class Catalogue:
    """The tables by project, dataset and name."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = {(table.project, table.dataset, table.name): table for table in tables}

    def find(self, project: str, dataset: str, name: str) -> Table:
        """Return the table; raise BigQuery's notFound when there is none of that name."""
        table = self._tables.get((project, dataset, name))
        if table is None:
            raise BigQueryError("notFound", f"Not found: Table {project}:{dataset}.{name} was not found in location US")
        return table


def load(connection: duckdb.DuckDBPyConnection) -> Catalogue:
    """Read the catalogue of the attached database `store`."""
    return Catalogue([_load(connection, *row) for row in connection.execute(query("catalogue", "tables")).fetchall()])


def _load(connection: duckdb.DuckDBPyConnection, project: str, dataset: str, name: str, partition: str | None) -> Table:
    relation = connection.table(f'store."{project}.{dataset}"."{name}"')
    schema = Type("STRUCT", fields=dict(zip(relation.columns, map(from_duckdb, relation.types), strict=True)))
    leaf_bytes: dict[Path, dict[dt.date, int]] = {path: {} for path, _ in schema.leaves()}
    sizes = connection.execute(query("catalogue", "leaf_bytes"), [project, dataset, name]).fetchall()
    for leaf, day, size in sizes:
        leaf_bytes[tuple(leaf)][day] = size
    return Table(project, dataset, name, partition, schema, leaf_bytes)
