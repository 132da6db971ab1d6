"""A translated expression: its DuckDB syntax, its BigQuery type, and the stored column that it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from warehouse.schema import Path, Type, to_duckdb

if TYPE_CHECKING:
    from warehouse.catalogue import Table

INT64, FLOAT64, STRING, BOOL = Type("INT64"), Type("FLOAT64"), Type("STRING"), Type("BOOL")
DATE, TIMESTAMP, DATETIME, BYTES = Type("DATE"), Type("TIMESTAMP"), Type("DATETIME"), Type("BYTES")
NUMERIC, BIGNUMERIC = Type("NUMERIC"), Type("BIGNUMERIC")
NULL = Type("NULL")
ROW = "bq_row"


class TableSource:
    """A stored table in a FROM clause; only the columns that the query names are read from it.

    `marker` is the table name that stands for the scan until all columns are known. With `with_rows`, the scan has the
    numbers of the rows too, by which they can be changed.
    """

    def __init__(self, alias: str, table: Table, marker: str, *, with_rows: bool = False) -> None:
        self.alias = alias
        self.marker = marker
        self._with_rows = with_rows
        self.table = table
        self.types = table.schema.fields
        self.leaves: set[Path] = set()
        self.pruning: list[exp.Expr] = []
        self._columns: set[Path] = set()

    def value(self, name: str) -> Value:
        """Return a top-level column."""
        path = (name,)
        return Value(self.column_sql(path), self.types[name], Origin(self, path, flat=True))

    def whole(self) -> Value | None:
        """Return None: a table's row is not translated as a value."""
        return None

    def column_sql(self, path: Path) -> exp.Expr:
        """Return the column in which the narrowed scan has the field at the path."""
        return exp.column(".".join(path), table=self.alias, quoted=True)

    def read(self, origin: Origin) -> None:
        """Note that the query reads all leaf columns below the origin's path."""
        kind = self.table.schema.at(origin.path)
        if kind:
            self.leaves.update(path for path, _ in kind.leaves(origin.path))
        if origin.flat:
            self.project(origin.path)

    def read_all(self) -> None:
        """Note that all columns are read, as BigQuery bills the rows that a statement changes."""
        self.leaves.update(path for path, _ in self.table.schema.leaves())

    def project(self, path: Path) -> None:
        """Have the narrowed scan return the field at the path."""
        self._columns.add(path)

    def scan(self) -> exp.Expr:
        """Return the narrowed scan; it is complete once every name of the query is resolved."""
        project, dataset, name = self.table.name
        stored = exp.table_(name, f"{project}.{dataset}", self.table.database, quoted=True)
        columns = [exp.alias_(exp.column("rowid"), ROW)] if self._with_rows else []
        columns += [exp.alias_(_nested_field(path), ".".join(path), quoted=True) for path in sorted(self._columns)]
        columns = columns or [exp.alias_(exp.Literal.number(1), "one")]
        return exp.Subquery(this=exp.Select(expressions=columns, from_=exp.From(this=stored)))


@dataclass(frozen=True)
class Origin:
    """The field of a stored table that a value is read from; `flat` unless it is inside the elements of an array."""

    source: TableSource
    path: Path
    flat: bool


@dataclass(frozen=True)
class Value:
    """A translated expression; `literal` marks a string literal, which BigQuery coerces to dates."""

    sql: exp.Expr
    type: Type
    origin: Origin | None = None
    literal: bool = False

    def field(self, name: str) -> Value | None:
        """Return the struct's field of that name, in any case of letters, or None when it has none."""
        kind = None if self.type.repeated else self.type.child(name)
        if kind is None:
            return None
        stored = next(key for key in self.type.fields if key.lower() == name.lower())
        origin = replace(self.origin, path=(*self.origin.path, stored)) if self.origin else None
        if origin and origin.flat:
            return Value(origin.source.column_sql(origin.path), kind, origin)
        return Value(struct_field(self.sql, stored), kind, origin)

    def read(self) -> Value:
        """Note in the value's table that it is read, and return the value."""
        if self.origin:
            self.origin.source.read(self.origin)
        return self


def call(name: str, *arguments: exp.Expr | str) -> exp.Expr:
    """Return a call of a DuckDB function, which sqlglot writes as it is."""
    return exp.Anonymous(this=name, expressions=[exp.maybe_parse(a) for a in arguments])


def duckdb_type(kind: Type) -> exp.DataType:
    """Return the DuckDB type that holds values of a BigQuery type."""
    return exp.DataType.build(to_duckdb(kind), dialect=DuckDB)


def cast(sql: exp.Expr, kind: Type) -> exp.Expr:
    """Return DuckDB's own cast of an expression to a type."""
    return exp.Cast(this=sql, to=duckdb_type(kind))


def struct_field(sql: exp.Expr, name: str) -> exp.Expr:
    """Return the field of a struct."""
    return call("struct_extract", sql, exp.Literal.string(name))


def _nested_field(path: Path) -> exp.Expr:
    sql: exp.Expr = exp.column(path[0], quoted=True)
    for name in path[1:]:
        sql = struct_field(sql, name)
    return sql
