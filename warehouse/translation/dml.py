"""INSERT, UPDATE, DELETE and MERGE, each as a query for the changes it makes: `bq_row`, `bq_action` and the new values.

`bq_row` is DuckDB's number of the row that is changed; `bq_action` is insert, update, delete, or NULL for none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.context import Context, Output, Statement
from warehouse.translation.conversions import coerce
from warehouse.translation.from_clause import FromClause, aliased
from warehouse.translation.partition import prune
from warehouse.translation.scope import DerivedSource, Scope, Source
from warehouse.translation.storing import stored
from warehouse.translation.syntax import check_parts, position, spelled
from warehouse.translation.value import BOOL, INT64, NULL, ROW, STRING, TableSource, Value, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warehouse.catalogue import Table
    from warehouse.schema import Type

INSERTED = "Value has type {type} which cannot be inserted into column {column}, which has type {wanted}"
UPDATED = "Value of type {type} cannot be assigned to {column}, which has type {wanted}"
ACTION, PRESENT = "bq_action", "bq_present"
DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
Values = dict[str, Value]


@dataclass
class Clause:
    """What is done to a row that meets the condition; `values` are those of the columns that it names."""

    action: str
    condition: exp.Expr
    values: Values = field(default_factory=dict)


def translate_change(statement: Statement, node: exp.Expr) -> tuple[Output, Table]:
    """Translate a statement of DML; return the query for its changes, and the table that it changes."""
    return TRANSLATORS[type(node)](statement, node)


def _target(statement: Statement, node: exp.Expr) -> TableSource:
    if not isinstance(node, exp.Table):
        raise refused(f"{spelled(node)} as the table to change")
    check_parts(node, frozenset({"this", "db", "catalog", "alias"}))
    full = ".".join(part.name for part in node.parts).split(".")
    if not 2 <= len(full) <= 3:
        raise invalid_query(
            f'Table "{".".join(full)}" must be qualified with a dataset (e.g. dataset.table) '
            f"at {position(node, statement.text)}"
        )
    project = full[0] if len(full) == 3 else statement.project
    table = statement.catalogue.find(project, *full[-2:])
    table.require_writable()
    return TableSource(node.alias or full[-1], table, f"bq_scan_{len(statement.scans)}", with_rows=True)


def _scanned(statement: Statement, scope: Scope, target: TableSource) -> exp.Expr:
    """Add the table to the sources of the statement, and return its place in FROM."""
    statement.scans.append(target)
    scope.add(target)
    return aliased(exp.to_table(target.marker), target.alias)


def _insert(statement: Statement, node: exp.Expr) -> tuple[Output, Table]:
    check_parts(node, frozenset({"this", "expression"}))
    listed = node.this.expressions if isinstance(node.this, exp.Schema) else []
    table = _target(statement, node.this.this if isinstance(node.this, exp.Schema) else node.this).table
    columns = _columns(table, [item.name for item in listed])
    if isinstance(node.expression, exp.Values):
        rows = _value_rows(statement, node.expression, table, columns)
    else:
        output = statement.query(node.expression, None)
        kinds = [kind for _, kind in output.columns]
        rows = _numbered(output.sql, len(kinds))
        _check_count(len(kinds), len(columns))
        sources = [Value(_number(place), kind) for place, kind in enumerate(kinds)]
        given = {
            column: _assigned(value, column, table.schema.fields[column])
            for column, value in zip(columns, sources, strict=True)
        }
        return _changes(table, [Clause("insert", exp.true(), given)], exp.Select(from_=exp.From(this=rows))), table
    given = {column: Value(_number(place), table.schema.fields[column]) for place, column in enumerate(columns)}
    return _changes(table, [Clause("insert", exp.true(), given)], exp.Select(from_=exp.From(this=rows))), table


def _value_rows(statement: Statement, node: exp.Expr, table: Table, columns: list[str]) -> exp.Expr:
    context = Context(statement)
    rows = []
    for row in node.expressions:
        items = row.expressions if isinstance(row, exp.Tuple) else [row.this if isinstance(row, exp.Paren) else row]
        _check_count(len(items), len(columns))
        values = _listed(context, table, columns, items).values()
        rows.append(exp.Tuple(expressions=[cast(value.sql, value.type) for value in values]))
    return _numbered(exp.Values(expressions=rows), len(columns))


def _numbered(rows: exp.Expr, count: int) -> exp.Expr:
    names = [exp.to_identifier(f"bq_value_{place}") for place in range(count)]
    alias = exp.TableAlias(this=exp.to_identifier("bq_rows"), columns=names)
    if isinstance(rows, exp.Values):
        rows.set("alias", alias)
        return rows
    return exp.Subquery(this=rows, alias=alias)


def _number(place: int) -> exp.Expr:
    return exp.column(f"bq_value_{place}", table="bq_rows")


def _check_count(found: int, wanted: int) -> None:
    if found != wanted:
        raise invalid_query(f"Inserted row has wrong column count; Has {found}, expected {wanted}")


def _columns(table: Table, names: Sequence[str]) -> list[str]:
    """Return the columns of a list as the table spells them; without a list, all."""
    found = [_column(table, name) for name in names] or list(table.schema.fields)
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise invalid_query(f"INSERT has columns with duplicate name: {twice[0]}")
    return found


def _column(table: Table, name: str) -> str:
    found = next((key for key in table.schema.fields if key.lower() == name.lower()), None)
    if found is None:
        raise invalid_query(f"Column {name} is not present in table {'.'.join(table.name)}")
    return found


def _listed(context: Context, table: Table, columns: list[str], items: list[exp.Expr], words: str = INSERTED) -> Values:
    """Return the values for some columns, each as the type of its column; `words` are those of the error."""
    values = [Value(exp.null(), NULL) if _is_default(item) else context.value(item) for item in items]
    kinds = table.schema.fields
    return {
        column: _assigned(value, column, kinds[column], words) for column, value in zip(columns, values, strict=True)
    }


def _is_default(item: exp.Expr) -> bool:
    bare = isinstance(item, exp.Var) or (isinstance(item, exp.Column) and not item.table and not item.this.quoted)
    return bare and item.name.upper() == "DEFAULT"


def _assigned(value: Value, column: str, kind: Type, words: str = INSERTED) -> Value:
    found = coerce(value, kind)
    if found is None:
        raise invalid_query(words.format(type=value.type.spelled(), column=column, wanted=kind.spelled()))
    return found


def _delete(statement: Statement, node: exp.Expr) -> tuple[Output, Table]:
    check_parts(node, frozenset({"this", "tables", "where"}))
    scope = Scope()
    target = _target(statement, node.this or node.args["tables"][0])
    sql = exp.Select(from_=exp.From(this=_scanned(statement, scope, target)))
    _where(Context(statement, scope), node, target, sql, "DELETE")
    target.read_all()
    return _changes(target.table, [Clause("delete", exp.true())], sql, target), target.table


def _where(context: Context, node: exp.Expr, target: TableSource, sql: exp.Expr, construct: str) -> None:
    where = node.args.get("where")
    if where is None:
        raise invalid_query(f"{construct} must have a WHERE clause")
    sql.set("where", exp.Where(this=context.typed(where.this, BOOL, "WHERE clause").sql))
    for source in context.scope.sources:
        if isinstance(source, TableSource):
            prune(context, source, where.this)


def _update(statement: Statement, node: exp.Expr) -> tuple[Output, Table]:
    check_parts(node, frozenset({"this", "expressions", "from_", "where"}))
    scope = Scope()
    context = Context(statement, scope)
    target = _target(statement, node.this)
    sql = exp.Select(from_=exp.From(this=_scanned(statement, scope, target)))
    if node.args.get("from_"):
        others = exp.Select()
        FromClause(context).translate(exp.Select(from_=node.args["from_"]), others)
        sql.set("joins", [exp.Join(this=others.args["from_"].this, kind="CROSS"), *others.args["joins"]])
    _where(context, node, target, sql, "UPDATE")
    target.read_all()
    clause = Clause("update", exp.true(), _assignments(context, target.table, node.expressions))
    return _changes(target.table, [clause], sql, target), target.table


def _assignments(context: Context, table: Table, items: list[exp.Expr]) -> Values:
    found: Values = {}
    for item in items:
        if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column) or item.this.table:
            raise refused("SET of other than a column")
        column = _column(table, item.this.name)
        if column in found:
            raise invalid_query(f"Update item {column} assigned more than once")
        found |= _listed(context, table, [column], [item.expression], UPDATED)
    return found


def _merge(statement: Statement, node: exp.Expr) -> tuple[Output, Table]:
    check_parts(node, frozenset({"this", "using", "on", "whens"}))
    scope = Scope()
    context = Context(statement, scope)
    target = _target(statement, node.this)
    table = _scanned(statement, scope, target)
    item = FromClause(context).item(node.args["using"])
    source = scope.sources[-1]
    if not isinstance(source, TableSource | DerivedSource):
        raise refused("an array as the source of MERGE")
    clauses = [_when(context, target, source, when) for when in node.args["whens"].expressions]
    by_source = any(when.args.get("source") for when in node.args["whens"].expressions)
    by_target = any(clause.action == "insert" for clause in clauses)
    side = {(True, True): "FULL", (True, False): "LEFT", (False, True): "RIGHT"}.get((by_source, by_target))
    on = node.args["on"]
    join = exp.Join(this=_flagged(item, source), side=side, kind=None if side else "INNER")
    join.set("on", context.typed(on, BOOL, "MERGE ON").sql)
    if not by_source:
        prune(context, target, on)
    if any(clause.action != "insert" for clause in clauses):
        target.read_all()
    sql = exp.Select(from_=exp.From(this=table), joins=[join])
    return _changes(target.table, clauses, sql, target), target.table


def _flagged(item: exp.Expr, source: Source) -> exp.Expr:
    """Return the source with a column that is NULL where no row of it is joined."""
    star = exp.Column(this=exp.Star(), table=exp.to_identifier(source.alias, quoted=True))
    select = exp.Select(expressions=[star, exp.alias_(exp.true(), PRESENT)], from_=exp.From(this=item))
    return aliased(exp.Subquery(this=select), source.alias)


def _when(context: Context, target: TableSource, source: TableSource | DerivedSource, when: exp.Expr) -> Clause:
    check_parts(when, frozenset({"matched", "source", "condition", "then"}))
    matched, by_source = bool(when.args.get("matched")), bool(when.args.get("source"))
    visible: list[Source] = [target, source] if matched else [target] if by_source else [source]
    inner = Context(context.statement, Scope(sources=visible))
    present = [_is_present(target.alias, ROW, matched or by_source), _is_present(source.alias, PRESENT, not by_source)]
    condition = when.args.get("condition")
    met = [inner.typed(condition, BOOL, "MERGE WHEN").sql] if condition else []
    action, values = _then(inner, target.table, source, when.args["then"])
    if (action == "insert") != (not matched and not by_source):
        raise invalid_query(f"Syntax error: {action.upper()} is not allowed in this WHEN clause of MERGE")
    return Clause(action, exp.and_(*present, *met, copy=False), values)


def _is_present(alias: str, column: str, wanted: bool) -> exp.Expr:
    missing = exp.Is(this=exp.column(column, table=exp.to_identifier(alias, quoted=True)), expression=exp.null())
    return exp.Not(this=missing) if wanted else missing


def _then(context: Context, table: Table, source: TableSource | DerivedSource, then: exp.Expr) -> tuple[str, Values]:
    if isinstance(then, exp.Var) and then.name.upper() == "DELETE":
        return "delete", {}
    if isinstance(then, exp.Update):
        check_parts(then, frozenset({"expressions"}))
        return "update", _assignments(context, table, then.expressions)
    if not isinstance(then, exp.Insert):
        raise refused(f"{spelled(then)} in MERGE")
    check_parts(then, frozenset({"this", "expression"}))
    if isinstance(then.this, exp.Var) or isinstance(then.expression, exp.Var):
        return "insert", _whole_row(table, source)
    columns = _columns(table, [item.name for item in then.this.expressions] if then.this else [])
    items = then.expression.expressions if isinstance(then.expression, exp.Tuple) else [then.expression]
    _check_count(len(items), len(columns))
    return "insert", _listed(context, table, columns, items)


def _whole_row(table: Table, source: TableSource | DerivedSource) -> Values:
    """Return the values of INSERT ROW: the columns of the source, in their order."""
    columns = table.schema.fields
    _check_count(len(source.types), len(columns))
    return {
        column: _assigned(source.value(name).read(), column, columns[column])
        for column, name in zip(columns, source.types, strict=True)
    }


def _changes(table: Table, clauses: list[Clause], sql: exp.Expr, target: TableSource | None = None) -> Output:
    """Return the query for the changes: of each row, what the first clause does that it meets."""
    number = exp.column(ROW, table=exp.to_identifier(target.alias, quoted=True)) if target else exp.null()
    action = _chosen(clauses, lambda clause: exp.Literal.string(clause.action))
    kinds = table.schema.fields
    values = [(name, cast(_chosen(clauses, partial(_new, name, target)), kind)) for name, kind in kinds.items()]
    chosen = [(ROW, cast(number, INT64)), (ACTION, cast(action, STRING)), *values]
    sql.set("expressions", [exp.alias_(value, name, quoted=True, copy=False) for name, value in chosen])
    # From outside, each part of a nested value is named by its path, instead of by all that it is computed from.
    columns = [
        exp.alias_(stored(exp.column(name, quoted=True), kind), name, quoted=True) for name, kind in kinds.items()
    ]
    inner = exp.Subquery(this=sql, alias=exp.TableAlias(this=exp.to_identifier("bq_new")))
    return Output(
        exp.Select(expressions=[exp.column(ROW), exp.column(ACTION), *columns], from_=exp.From(this=inner)), []
    )


def _chosen(clauses: list[Clause], part: Callable[[Clause], exp.Expr]) -> exp.Expr:
    if len(clauses) == 1 and clauses[0].condition == exp.true():
        return part(clauses[0])
    case = exp.Case()
    for clause in clauses:
        case = case.when(clause.condition.copy(), part(clause))
    return case


def _new(column: str, target: TableSource | None, clause: Clause) -> exp.Expr:
    if column in clause.values:
        return clause.values[column].sql.copy()
    if clause.action == "update" and target:
        return target.value(column).read().sql
    return exp.null()


TRANSLATORS: dict[type[exp.Expr], Callable[[Statement, exp.Expr], tuple[Output, Table]]] = {
    exp.Insert: _insert,
    exp.Update: _update,
    exp.Delete: _delete,
    exp.Merge: _merge,
}
