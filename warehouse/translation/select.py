"""Queries: SELECT, WITH and UNION."""

from __future__ import annotations

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.translation.aggregates import ordered
from warehouse.translation.context import Context, Output, Statement
from warehouse.translation.conversions import unify
from warehouse.translation.from_clause import FromClause
from warehouse.translation.functions import output_name, struct_value, typed_null
from warehouse.translation.partition import prune
from warehouse.translation.scope import DerivedSource, ElementSource, Scope
from warehouse.translation.syntax import check_parts, position, spelled
from warehouse.translation.value import BOOL, TableSource, Value

COSTLY = (exp.Group, exp.Distinct, exp.Window, exp.AggFunc, exp.Limit)
SELECT_PARTS = frozenset(
    [
        "kind",
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "qualify",
        "order",
        "limit",
        "offset",
        "distinct",
        "with_",
    ]
)


def translate_query(statement: Statement, node: exp.Expr, outer: Scope | None) -> Output:
    """Translate a SELECT or a UNION that can see the names of the scope around it; refuse any other query."""
    tables = _with(statement, node, outer)
    if isinstance(node, exp.Select):
        output = _select(statement, node, outer)
    elif isinstance(node, exp.Union):
        output = _union(statement, node, outer)
    else:
        raise refused(spelled(node))
    if tables:
        output.sql.set("with_", exp.With(expressions=tables))
    return output


def _with(statement: Statement, node: exp.Expr, outer: Scope | None) -> list[exp.Expr]:
    clause = node.args.get("with_")
    if clause is None:
        return []
    check_parts(clause, frozenset({"expressions"}))
    tables: list[exp.Expr] = []
    for item in clause.expressions:
        output = statement.query(item.this, outer)
        statement.with_tables[item.alias.lower()] = output
        alias = exp.TableAlias(this=exp.to_identifier(item.alias.lower(), quoted=True))
        inlined = _is_inlined(statement, item.this)
        if inlined:
            statement.inlined.add(item.alias.lower())
        tables.append(exp.CTE(this=output.sql, alias=alias, materialized=False if inlined else None))
    return tables


def _is_inlined(statement: Statement, query: exp.Expr) -> bool:
    """Return whether the query is the rows of stored tables, which take longer to copy than to scan.

    Of any other that is used twice, DuckDB keeps the result.
    """
    if query.find(*COSTLY):
        return False
    kept = statement.with_tables.keys() - statement.inlined
    return any(table.db or table.name.lower() not in kept for table in query.find_all(exp.Table))


def _union(statement: Statement, node: exp.Expr, outer: Scope | None) -> Output:
    check_parts(node, frozenset({"this", "expression", "distinct", "order", "limit", "offset", "with_"}))
    left, right = statement.query(node.this, outer), statement.query(node.expression, outer)
    if len(left.columns) != len(right.columns):
        raise invalid_query("Queries in UNION have mismatched column count")
    columns = []
    for (name, one), (_, other) in zip(left.columns, right.columns, strict=True):
        if one != other and "STRUCT" in (one.name, other.name):
            raise refused("a UNION of STRUCTs of different types")
        kind = one if one == other else unify([Value(exp.null(), one), Value(exp.null(), other)], "UNION")[1]
        columns.append((name, kind))
    sql = exp.Union(this=left.sql, expression=right.sql, distinct=bool(node.args.get("distinct")))
    context = Context(statement, Scope(outer))
    _tail(context, node, sql, [name for name, _ in columns])
    return Output(sql, columns)


def _select(statement: Statement, node: exp.Expr, outer: Scope | None) -> Output:
    check_parts(node, SELECT_PARTS)
    scope = Scope(outer)
    context = Context(statement, scope)
    sql = exp.Select()
    FromClause(context).translate(node, sql)
    if where := node.args.get("where"):
        sql.set("where", exp.Where(this=context.typed(where.this, BOOL, "WHERE clause").sql))
        for source in scope.sources:
            if isinstance(source, TableSource):
                prune(context, source, where.this)
    columns = _select_list(context, node)
    scope.aliases = {name.lower(): value for name, value in columns}
    _grouping(context, node, sql, [name for name, _ in columns])
    for key, kind in (("having", exp.Having), ("qualify", exp.Qualify)):
        if clause := node.args.get(key):
            sql.set(key, kind(this=context.later().typed(clause.this, BOOL, key.upper()).sql))
    _distinct(node, sql)
    _tail(context.later(), node, sql, [name for name, _ in columns])
    return _output(node, sql, columns)


def _output(node: exp.Expr, sql: exp.Expr, columns: list[tuple[str, Value]]) -> Output:
    if kind := node.args.get("kind"):
        if kind != "STRUCT":
            raise refused(f"SELECT AS {kind}")
        columns = [("struct", struct_value(dict(columns)))]
    typed = [(name, typed_null(value)) for name, value in columns]
    sql.set("expressions", [exp.alias_(value.sql, name, quoted=True, copy=False) for name, value in typed])
    return Output(sql, [(name, value.type) for name, value in typed])


def _select_list(context: Context, node: exp.Expr) -> list[tuple[str, Value]]:
    columns: list[tuple[str, Value]] = []
    unnamed = 0
    for item in node.expressions:
        star = item.this if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) else item
        if isinstance(star, exp.Star):
            columns += _star(context, star, item)
            continue
        inner = item.this if isinstance(item, exp.Alias) else item
        name = output_name(item)
        if name is None:
            name, unnamed = f"f{unnamed}_", unnamed + 1
        columns.append((name, context.value(inner)))
    return columns


def _star(context: Context, star: exp.Expr, item: exp.Expr) -> list[tuple[str, Value]]:
    check_parts(star, frozenset({"except_"}))
    left_out = {column.name.lower() for column in star.args.get("except_") or []}
    wanted = item.table.lower() if isinstance(item, exp.Column) else None
    sources = [s for s in context.scope.sources if wanted is None or s.alias.lower() == wanted]
    if not sources or context.scope.merged:
        raise refused("* without a FROM clause that says what it stands for, or after USING,")
    columns: list[tuple[str, Value]] = []
    for source in sources:
        if not isinstance(source, TableSource | DerivedSource | ElementSource) or not source.types:
            raise refused("* over an array of plain values")
        kept = [name for name in source.types if name.lower() not in left_out]
        columns += [(name, source.value(name).read()) for name in kept]
    return columns


def _grouping(context: Context, node: exp.Expr, sql: exp.Expr, names: list[str]) -> None:
    group = node.args.get("group")
    if group is None:
        return
    check_parts(group, frozenset({"expressions"}))
    keys = [_ordinal(context, item, names, of_group=True) for item in group.expressions]
    sql.set("group", exp.Group(expressions=keys))


def _ordinal(context: Context, item: exp.Expr, names: list[str], *, of_group: bool) -> exp.Expr:
    """Translate a GROUP BY or ORDER BY item: positions stay, aliases become positions."""
    if isinstance(item, exp.Literal) and item.is_int:
        if not 1 <= int(item.this) <= len(names):
            raise invalid_query(f"Column position {item.this} is out of range")
        return item.copy()
    matches = [i for i, name in enumerate(names, 1) if _bare(item) == name.lower()]
    if matches:
        if len(matches) > 1:
            raise invalid_query(f"Column name {item.name} is ambiguous at {position(item, context.statement.text)}")
        if of_group:
            context.scope.alias(item.name)
        return exp.Literal.number(matches[0])
    return context.value(item).sql


def _distinct(node: exp.Expr, sql: exp.Expr) -> None:
    if distinct := node.args.get("distinct"):
        check_parts(distinct, frozenset())
        sql.set("distinct", exp.Distinct())


def _tail(context: Context, node: exp.Expr, sql: exp.Expr, names: list[str]) -> None:
    if order := node.args.get("order"):
        items = [ordered(_ordinal(context, item.this, names, of_group=False), item) for item in order.expressions]
        sql.set("order", exp.Order(expressions=items))
    for key, kind in (("limit", exp.Limit), ("offset", exp.Offset)):
        if clause := node.args.get(key):
            count = clause.expression
            if not isinstance(count, exp.Literal | exp.Parameter):
                raise refused(f"a computed {key.upper()}")
            sql.set(key, kind(expression=context.value(count).sql))


def _bare(item: exp.Expr) -> str | None:
    return item.name.lower() if isinstance(item, exp.Column) and not item.table else None
