"""What a name can mean inside a SELECT: the tables, sub-queries and array elements of its FROM clause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.value import Origin, Value, call

if TYPE_CHECKING:
    from warehouse.catalogue import Table
    from warehouse.schema import Path, Type


class TableSource:
    """A stored table; only the columns that the query names are read from it."""

    def __init__(self, alias: str, table: Table, marker: str) -> None:
        """Nothing is read yet; `marker` stands for the scan until all columns are known."""
        self.alias = alias
        self.marker = marker
        self.table = table
        self.types = table.schema.fields
        self.leaves: set[Path] = set()
        self.pruning: list[exp.Expr] = []
        self._columns: set[Path] = set()

    def value(self, name: str) -> Value:
        """A top-level column."""
        path = (name,)
        return Value(self.column_sql(path), self.types[name], Origin(self, path, flat=True))

    def whole(self) -> Value | None:
        """The row itself is not a value here."""
        return None

    def column_sql(self, path: Path) -> exp.Expr:
        """The column under which the path is handed on by the narrowed scan."""
        return exp.column(".".join(path), table=self.alias, quoted=True)

    def read(self, origin: Origin) -> None:
        """Note that everything below the path is read."""
        kind = self.table.schema.at(origin.path)
        if kind:
            self.leaves.update(path for path, _ in kind.leaves(origin.path))
        if origin.flat:
            self.project(origin.path)

    def project(self, path: Path) -> None:
        """Let the narrowed scan hand on this path."""
        self._columns.add(path)

    def scan(self) -> exp.Expr:
        """The narrowed scan, right once every name of the query has been looked up."""
        stored = exp.table_(self.table.name, f"{self.table.project}.{self.table.dataset}", "store", quoted=True)
        columns = [exp.alias_(_extract(path), ".".join(path), quoted=True) for path in sorted(self._columns)]
        columns = columns or [exp.alias_(exp.Literal.number(1), "one")]
        return exp.Subquery(this=exp.Select(expressions=columns, from_=exp.From(this=stored)))


class DerivedSource:
    """A sub-query or a WITH table."""

    def __init__(self, alias: str, types: dict[str, Type]) -> None:
        """The output columns are all that is known of it."""
        self.alias = alias
        self.types = types

    def value(self, name: str) -> Value:
        """An output column."""
        return Value(exp.column(name, table=self.alias, quoted=True), self.types[name])

    def whole(self) -> Value | None:
        """The row itself is not a value here."""
        return None


class ElementSource:
    """The elements of an unnested array: the element itself, and its fields as if they were columns."""

    def __init__(self, alias: str, array: Value, column: exp.Expr) -> None:
        """Reading an element's field reads that leaf of the array's table, if it came from one; it is in `column`."""
        self.alias = alias
        self._column = column
        self.origin = Origin(array.origin.source, array.origin.path, flat=False) if array.origin else None
        self.element = type(array.type)(array.type.name, fields=array.type.fields)
        self.types = self.element.fields

    def settle(self) -> None:
        """An array of which no field was read still has to be counted: all of it."""
        if self.origin and not any(_within(leaf, self.origin.path) for leaf in self.origin.source.leaves):
            self.origin.source.read(self.origin)

    def value(self, name: str) -> Value:
        """A field of the element."""
        found = self.whole().field(name)
        if found is None:
            raise invalid_query(f"Name {name} not found inside {self.alias}")
        return found

    def whole(self) -> Value:
        """The element."""
        return Value(self._column.copy(), self.element, self.origin)


class OffsetSource:
    """The position of an unnested array's element, counted from 0."""

    def __init__(self, alias: str, position: Value) -> None:
        """`position` is where the array's positions are."""
        self.alias = alias
        self.types: dict[str, Type] = {}
        self._value = position

    def value(self, name: str) -> Value:
        """A position has no columns."""
        raise invalid_query(f"Name {name} not found inside {self.alias}")

    def whole(self) -> Value:
        """The position."""
        return self._value


Source = TableSource | DerivedSource | ElementSource | OffsetSource


@dataclass
class Scope:
    """The sources of one SELECT, inside those of the queries around it."""

    parent: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)
    aliases: dict[str, Value] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        """Add a source under an alias that is not taken yet."""
        if any(s.alias.lower() == source.alias.lower() for s in self.sources):
            raise invalid_query(f"Duplicate table alias {source.alias} in the same FROM clause")
        self.sources.append(source)

    def range_variable(self, name: str) -> Source | None:
        """The source of that alias in this SELECT."""
        return next((s for s in self.sources if s.alias.lower() == name.lower()), None)

    def column(self, name: str) -> Value | None:
        """The column of that name in this SELECT's FROM clause; invalidQuery if there are two."""
        found = [
            (source, stored) for source in self.sources for stored in source.types if stored.lower() == name.lower()
        ]
        if len(found) > 1 and name.lower() not in self.merged:
            raise invalid_query(f"Column name {name} is ambiguous")
        return found[0][0].value(found[0][1]) if found else None

    def alias(self, name: str) -> Value | None:
        """The SELECT list's expression of that name; refused where a column of that name is something else."""
        value = self.aliases.get(name.lower())
        source = self.range_variable(name)
        column = source.whole() if source else self.column(name)
        if value and column and column.sql != value.sql:
            raise refused(f"the name {name}, which is both a column and an alias of something else,")
        return Value(value.sql.copy(), value.type, value.origin) if value else None

    def start(self, name: str) -> Value | Source | None:
        """What the first part of a name means, from the inside out."""
        source, column = self.range_variable(name), self.column(name)
        if source and column:
            raise refused(f"the name {name}, which is both a column and an alias in FROM,")
        if source or column:
            return source or column
        return self.parent.start(name) if self.parent else None


def _within(leaf: Path, path: Path) -> bool:
    return leaf[: len(path)] == path


def _extract(path: Path) -> exp.Expr:
    sql: exp.Expr = exp.column(path[0], quoted=True)
    for name in path[1:]:
        sql = call("struct_extract", sql, exp.Literal.string(name))
    return sql
