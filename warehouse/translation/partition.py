"""Partition pruning: a WHERE clause, weakened to the conditions that it puts on the partition's day alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import BigQueryError
from warehouse.translation.conversions import coerce
from warehouse.translation.value import DATE, TIMESTAMP, TableSource, Value, cast

if TYPE_CHECKING:
    from warehouse.translation.context import Context

DAY = exp.column("day", quoted=True)
MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.EQ: exp.EQ,
}


def prune(context: Context, source: TableSource, where: exp.Expr) -> None:
    """Add to the source the conditions of a WHERE clause on its partitions, as DuckDB expressions over `day`."""
    for condition in where.flatten() if isinstance(where, exp.And) else [where]:
        weakened = _weakened(context, source, condition)
        if weakened is not None:
            source.pruning.append(weakened)


def _weakened(context: Context, source: TableSource, node: exp.Expr) -> exp.Expr | None:
    node = node.unnest()
    if isinstance(node, exp.And | exp.Or):
        sides = [_weakened(context, source, side) for side in (node.this, node.expression)]
        known = [side for side in sides if side is not None]
        if isinstance(node, exp.Or) and len(known) < 2:
            return None
        if len(known) < 2:
            return known[0] if known else None
        return exp.Paren(this=type(node)(this=known[0], expression=known[1]))
    if isinstance(node, exp.Between):
        return _between(context, source, node)
    if type(node) not in MIRRORED:
        return None
    if _is_partition(context, source, node.this):
        return _bound(context, source, node.this, type(node), node.expression)
    if _is_partition(context, source, node.expression):
        return _bound(context, source, node.expression, MIRRORED[type(node)], node.this)
    return None


def _between(context: Context, source: TableSource, node: exp.Expr) -> exp.Expr | None:
    if not _is_partition(context, source, node.this):
        return None
    low = _bound(context, source, node.this, exp.GTE, node.args["low"])
    high = _bound(context, source, node.this, exp.LTE, node.args["high"])
    return exp.And(this=low, expression=high) if low and high else None


def _is_partition(context: Context, source: TableSource, node: exp.Expr) -> bool:
    inner = node.this if isinstance(node, exp.Date) or _truncates_to_day(node) else node
    if not isinstance(inner, exp.Column) or inner.name.lower() != (source.table.partition_column or "").lower():
        return False
    origin = context.unread(inner).origin
    return origin is not None and origin.source is source and origin.path == (source.table.partition_column,)


def _truncates_to_day(node: exp.Expr) -> bool:
    return isinstance(node, exp.TimestampTrunc) and node.args["unit"].name.upper() == "DAY"


def _bound(
    context: Context, source: TableSource, column: exp.Expr, operator: type[exp.Expr], other: exp.Expr
) -> exp.Expr | None:
    if other.find(exp.Column, exp.Query):
        return None
    by_date = isinstance(column, exp.Date) or source.table.schema.child(source.table.partition_column or "") == DATE
    whole_days = by_date or not isinstance(column, exp.Column)
    limit = coerce(context.value(other), DATE if by_date else TIMESTAMP)
    return _condition(operator, limit, whole_days=whole_days) if limit else None


def _condition(operator: type[exp.Expr], limit: Value, *, whole_days: bool) -> exp.Expr:
    if whole_days:
        return operator(this=DAY.copy(), expression=cast(limit.sql, DATE))
    if operator is exp.LT:
        # A day has moments before the limit if it begins before it.
        return exp.LT(this=cast(DAY.copy(), TIMESTAMP), expression=limit.sql)
    inclusive = exp.GTE if operator is exp.GT else operator
    return inclusive(this=DAY.copy(), expression=cast(limit.sql, DATE))


def require_filter(source: TableSource) -> None:
    """Refuse a scan of all partitions, as BigQuery does for tables that require a filter."""
    table, column = source.table, source.table.partition_column
    if table.definition.requires_filter and not source.pruning:
        raise BigQueryError(
            "invalidQuery",
            f"Cannot query over table '{'.'.join(table.name)}' without a filter over "
            f"column(s) '{column}' that can be used for partition elimination",
            "query",
        )
