"""Translation of a GoogleSQL query's text into SQL that DuckDB can run, and the columns and days that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from warehouse.errors import BigQueryError
from warehouse.translation import aggregates, dates, documents, functions, operators
from warehouse.translation.context import Output, Statement
from warehouse.translation.dml import DML, translate_change
from warehouse.translation.partition import require_filter
from warehouse.translation.select import translate_query
from warehouse.translation.syntax import parse

if TYPE_CHECKING:
    from warehouse.catalogue import Catalogue, Table
    from warehouse.schema import Path, Type

# Importing them puts their handlers on the allow-list.
HANDLER_MODULES = (aggregates, dates, documents, functions, operators)


@dataclass(frozen=True)
class Scan:
    """The part of one table that a query reads: leaf columns, and the days that meet a DuckDB condition."""

    table: Table
    leaves: frozenset[Path]
    condition: str


@dataclass(frozen=True)
class Translation:
    """A query for DuckDB, its result columns, the names of its parameters and the parts of tables that it reads.

    A statement of DML is a query too, for the changes that it makes to the table `changes`.
    """

    kind: str
    sql: str
    columns: list[tuple[str, Type]]
    parameters: frozenset[str]
    scans: list[Scan]
    changes: Table | None = None
    views: tuple[Table, ...] = ()

    @property
    def tables(self) -> list[Table]:
        """Return the tables and views that are read or changed."""
        return [scan.table for scan in self.scans] + [*self.views] + ([self.changes] if self.changes else [])


def translate(text: str, project: str, catalogue: Catalogue, parameters: dict[str, Type]) -> Translation:
    """Translate a SELECT or a statement of DML; raise BigQueryError when it is wrong or cannot be translated."""
    statement = Statement(text, project, catalogue, parameters, translate_query)
    try:
        node = parse(text)
        if isinstance(node, DML):
            output, table = translate_change(statement, node)
            return _finished(statement, output, node.key.upper(), table)
        output = statement.query(node, None)
        output.types()
        return _finished(statement, output)
    except RecursionError:
        raise BigQueryError("resourcesExceeded", "Query is too deeply nested") from None


def _finished(statement: Statement, output: Output, kind: str = "SELECT", changes: Table | None = None) -> Translation:
    for element in statement.elements:
        element.count_unread()
    for source in statement.scans:
        require_filter(source)
    scans = {source.marker: source.scan() for source in statement.scans}

    def narrowed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Table) and node.name in scans:
            scan = scans[node.name].copy()
            scan.set("alias", node.args["alias"])
            return scan
        return node

    return Translation(
        kind,
        output.sql.transform(narrowed, copy=False).sql(DuckDB),
        output.columns,
        frozenset(statement.used_parameters),
        [
            Scan(source.table, frozenset(source.leaves), exp.and_(exp.true(), *source.pruning, copy=False).sql(DuckDB))
            for source in statement.scans
        ],
        changes,
        tuple(statement.views),
    )
