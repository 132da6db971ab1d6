"""Name resolution inside a SELECT: the tables, sub-queries and array elements of its FROM clause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.value import Origin, TableSource, Value

if TYPE_CHECKING:
    from warehouse.schema import Path, Type


class DerivedSource:
    """A sub-query or a WITH table in a FROM clause, by the names and types of its columns."""

    def __init__(self, alias: str, types: dict[str, Type]) -> None:
        self.alias = alias
        self.types = types

    def value(self, name: str) -> Value:
        """Return an output column."""
        return Value(exp.column(name, table=self.alias, quoted=True), self.types[name])

    def whole(self) -> Value | None:
        """Return None: a sub-query's row is not translated as a value."""
        return None


class ElementSource:
    """The elements of an unnested array: the element itself, in `column`, and its fields as if they were columns.

    To read a field of an element is to read that leaf column of the table that the array is stored in.
    """

    def __init__(self, alias: str, array: Value, column: exp.Expr) -> None:
        self.alias = alias
        self._column = column
        self.origin = Origin(array.origin.source, array.origin.path, flat=False) if array.origin else None
        self.element = type(array.type)(array.type.name, fields=array.type.fields)
        self.types = self.element.fields

    def count_unread(self) -> None:
        """Note that the whole array is read when no field of it was, as BigQuery bills it."""
        if self.origin and not any(_within(leaf, self.origin.path) for leaf in self.origin.source.leaves):
            self.origin.source.read(self.origin)

    def value(self, name: str) -> Value:
        """Return a field of the element; raise invalidQuery when it has none of that name."""
        found = self.whole().field(name)
        if found is None:
            raise invalid_query(f"Name {name} not found inside {self.alias}")
        return found

    def whole(self) -> Value:
        """Return the element itself."""
        return Value(self._column.copy(), self.element, self.origin)


class OffsetSource:
    """The offset of an unnested array's element, counted from 0."""

    def __init__(self, alias: str, position: Value) -> None:
        self.alias = alias
        self.types: dict[str, Type] = {}
        self._value = position

    def value(self, name: str) -> Value:
        """Raise invalidQuery: an offset has no columns."""
        raise invalid_query(f"Name {name} not found inside {self.alias}")

    def whole(self) -> Value:
        """Return the offset."""
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
        """Add a source; raise invalidQuery when its alias is taken."""
        if any(s.alias.lower() == source.alias.lower() for s in self.sources):
            raise invalid_query(f"Duplicate table alias {source.alias} in the same FROM clause")
        self.sources.append(source)

    def range_variable(self, name: str) -> Source | None:
        """Return the source of that alias in this SELECT, or None."""
        return next((s for s in self.sources if s.alias.lower() == name.lower()), None)

    def column(self, name: str) -> Value | None:
        """Return the column of that name in this SELECT's FROM clause, or None; raise invalidQuery for two of them."""
        found = [
            (source, stored) for source in self.sources for stored in source.types if stored.lower() == name.lower()
        ]
        if len(found) > 1 and name.lower() not in self.merged:
            raise invalid_query(f"Column name {name} is ambiguous")
        return found[0][0].value(found[0][1]) if found else None

    def alias(self, name: str) -> Value | None:
        """Return the SELECT list's expression of that name, or None; refuse it where a column of that name differs."""
        value = self.aliases.get(name.lower())
        source = self.range_variable(name)
        column = source.whole() if source else self.column(name)
        if value and column and column.sql != value.sql:
            raise refused(f"the name {name}, which is both a column and an alias of something else,")
        return Value(value.sql.copy(), value.type, value.origin) if value else None

    def start(self, name: str) -> Value | Source | None:
        """Return what the first part of a name stands for, searching this SELECT first and then those around it."""
        source = self.range_variable(name)
        if source and any(name.lower() == key.lower() for other in self.sources for key in other.types):
            raise refused(f"the name {name}, which is both a column and an alias in FROM,")
        if found := source or self.column(name):
            return found
        return self.parent.start(name) if self.parent else None


def _within(leaf: Path, path: Path) -> bool:
    return leaf[: len(path)] == path
