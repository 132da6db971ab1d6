"""Translation of a GoogleSQL query's text into SQL that DuckDB can run, and the columns and days that it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from warehouse.errors import BigQueryError, invalid_query, refused
from warehouse.translation import aggregates, dates, functions, operators
from warehouse.translation.context import Output, Statement
from warehouse.translation.dml import DML, translate_change
from warehouse.translation.partition import require_filter
from warehouse.translation.select import translate_query

if TYPE_CHECKING:
    from warehouse.catalogue import Catalogue, Table
    from warehouse.schema import Path, Type

# Importing them puts their handlers on the allow-list.
HANDLER_MODULES = (aggregates, dates, functions, operators)
MAX_QUERY_CHARACTERS = 1_000_000


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

    @property
    def tables(self) -> list[Table]:
        """Return the tables that are read or changed."""
        return [scan.table for scan in self.scans] + ([self.changes] if self.changes else [])


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


def parse(text: str) -> exp.Expr:
    """Return the syntax tree of a single SELECT or statement of DML; raise BigQueryError for anything else."""
    if len(text) > MAX_QUERY_CHARACTERS:
        raise invalid_query(f"The query is too large, its maximum length is {MAX_QUERY_CHARACTERS} characters")
    try:
        statements = [s for s in sqlglot.parse(text, read="bigquery") if s is not None]
    except ParseError as error:
        raise _syntax_error(error) from None
    except TokenError as error:
        raise invalid_query(f"Syntax error: {error}") from None
    if not statements:
        raise invalid_query("Syntax error: Unexpected end of script at [1:1]")
    if len(statements) > 1:
        raise refused("a script of several statements")
    if isinstance(statements[0], exp.Alias | exp.Column | exp.Condition):
        raise invalid_query(f"Syntax error: Unexpected {statements[0].sql('bigquery')} at [1:1]")
    if not isinstance(statements[0], exp.Query | exp.Insert | exp.Update | exp.Delete | exp.Merge):
        raise refused(f"the statement {statements[0].key.upper()}")
    return statements[0]


def _syntax_error(error: ParseError) -> BigQueryError:
    details = error.errors[0] if error.errors else {}
    where = f"[{details.get('line', 1)}:{details.get('col', 1)}]"
    found = re.sub(r"\s+", " ", str(details.get("highlight") or "")).strip()
    what = f'Unexpected "{found}"' if found else str(details.get("description", "Unexpected token"))
    return invalid_query(f"Syntax error: {what} at {where}")


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
        output.sql.transform(narrowed, copy=False).sql("duckdb"),
        output.columns,
        frozenset(statement.used_parameters),
        [
            Scan(
                source.table, frozenset(source.leaves), exp.and_(exp.true(), *source.pruning, copy=False).sql("duckdb")
            )
            for source in statement.scans
        ],
        changes,
    )
