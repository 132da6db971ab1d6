"""Aggregate functions and window functions."""

from __future__ import annotations

from sqlglot import exp

from warehouse.errors import refused
from warehouse.schema import Type
from warehouse.translation.context import Context, handles
from warehouse.translation.conversions import no_signature
from warehouse.translation.functions import typed_null
from warehouse.translation.syntax import check_parts, function_name, spelled
from warehouse.translation.value import BOOL, FLOAT64, INT64, STRING, Value, call, cast

RANKINGS = (exp.RowNumber, exp.Rank, exp.DenseRank)
AGGREGATES = (exp.Count, exp.CountIf, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.AnyValue, exp.LogicalOr, exp.LogicalAnd)
WINDOWED = (*AGGREGATES, *RANKINGS, exp.Lag, exp.Lead)
EXTREMES: dict[type[exp.Expr], str] = {exp.Min: "min", exp.Max: "max", exp.AnyValue: "any_value"}
BOOLEANS: dict[type[exp.Expr], str] = {exp.LogicalOr: "bool_or", exp.LogicalAnd: "bool_and"}


@handles(exp.Count, parts="this big_int")
def _count(context: Context, node: exp.Expr) -> Value:
    if isinstance(node.this, exp.Star):
        return Value(exp.Count(this=exp.Star()), INT64)
    sql, _ = _argument(context, node)
    return Value(exp.Count(this=sql), INT64)


@handles(exp.Sum, exp.Avg, parts="this")
def _sum(context: Context, node: exp.Expr) -> Value:
    sql, kind = _argument(context, node)
    if kind not in (INT64, FLOAT64):
        raise no_signature(f"aggregate function {node.key.upper()}", [Value(sql, kind)])
    if isinstance(node, exp.Avg):
        return Value(exp.Avg(this=sql), FLOAT64)
    return _narrowed(exp.Sum(this=sql), kind)


def _narrowed(sql: exp.Expr, kind: Type) -> Value:
    # DuckDB's SUM of INT64 is wider; the cast fails where BigQuery overflows.
    return Value(cast(sql, INT64) if kind == INT64 else sql, kind)


@handles(*EXTREMES, parts="this")
def _extreme(context: Context, node: exp.Expr) -> Value:
    sql, kind = _argument(context, node)
    if kind.repeated or (kind.name == "STRUCT" and not isinstance(node, exp.AnyValue)):
        raise no_signature(f"aggregate function {node.key.upper()}", [Value(sql, kind)])
    return Value(call(EXTREMES[type(node)], sql), kind)


@handles(*BOOLEANS, parts="this")
def _boolean(context: Context, node: exp.Expr) -> Value:
    value = context.typed(node.this, BOOL, function_name(node)).sql
    return Value(call(BOOLEANS[type(node)], value), BOOL)


@handles(exp.BitwiseOrAgg, parts="this")
def _bit_or(context: Context, node: exp.Expr) -> Value:
    return Value(call("bit_or", context.typed(node.this, INT64, "aggregate function BIT_OR").sql), INT64)


@handles(exp.CountIf, parts="this")
def _count_if(context: Context, node: exp.Expr) -> Value:
    # DuckDB's own is NULL, not 0, where there are no rows.
    condition = context.typed(node.this, BOOL, "function COUNTIF").sql
    return Value(exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition)), INT64)


@handles(exp.Distinct, parts="")
def _distinct(_: Context, node: exp.Expr) -> Value:
    raise refused(spelled(node))


def _argument(context: Context, node: exp.Expr) -> tuple[exp.Expr, Type]:
    inner = node.this
    if not isinstance(inner, exp.Distinct):
        value = typed_null(context.value(inner))
        return value.sql, value.type
    if len(inner.expressions) != 1 or inner.args.get("on"):
        raise refused("DISTINCT of several values")
    value = typed_null(context.value(inner.expressions[0]))
    if value.type.repeated or value.type.name == "STRUCT":
        raise refused(f"an aggregate function over DISTINCT {value.type.spelled()}")
    return exp.Distinct(expressions=[value.sql]), value.type


@handles(exp.IgnoreNulls, exp.RespectNulls, parts="this")
def _nulls(context: Context, node: exp.Expr) -> Value:
    if not isinstance(node.this, exp.ArrayAgg):
        raise refused(f"{node.key.upper()} of this function")
    return _collected(context, node.this, skip_nulls=isinstance(node, exp.IgnoreNulls))


@handles(exp.ArrayAgg, parts="this")
def _array_agg(context: Context, node: exp.Expr) -> Value:
    return _collected(context, node, skip_nulls=False)


def _collected(context: Context, node: exp.Expr, *, skip_nulls: bool) -> Value:
    check_parts(node, frozenset({"this"}))
    argument, most = node.this, None
    if isinstance(argument, exp.Limit) and isinstance(argument.expression, exp.Literal):
        argument, most = argument.this, argument.expression.copy()
    if isinstance(argument, exp.Distinct):
        sql, kind = _argument(context, node)
        value, order = Value(sql.expressions[0], kind), list[exp.Expr]()
    else:
        value, order = _ordered_argument(context, argument)
        sql = exp.Order(this=value.sql, expressions=order) if order else value.sql
    if value.type.repeated:
        raise refused("an array of arrays")
    collected = call("list", sql)
    if skip_nulls:
        present = exp.Not(this=exp.Is(this=value.sql.copy(), expression=exp.null()))
        collected = exp.Filter(this=collected, expression=exp.Where(this=present))
    if most is not None:
        collected = call("list_slice", collected, exp.Literal.number(1), most)
    return Value(collected, Type(value.type.name, repeated=True, fields=value.type.fields))


@handles(exp.GroupConcat, parts="this separator")
def _string_agg(context: Context, node: exp.Expr) -> Value:
    value, order = _ordered_argument(context, node.this)
    if value.type != STRING:
        raise no_signature("aggregate function STRING_AGG", [value])
    separator = (
        context.typed(node.args["separator"], STRING, "STRING_AGG").sql
        if node.args.get("separator")
        else exp.Literal.string(",")
    )
    last = exp.Order(this=separator, expressions=order) if order else separator
    return Value(call("string_agg", value.sql, last), STRING)


def _ordered_argument(context: Context, node: exp.Expr) -> tuple[Value, list[exp.Expr]]:
    if not isinstance(node, exp.Order):
        if isinstance(node, exp.Limit | exp.Distinct | exp.HavingMax):
            raise refused(f"{node.key.upper()} inside an aggregate function")
        return typed_null(context.value(node)), []
    value, _ = _ordered_argument(context, node.this)
    return value, ordering(context, node)


def ordering(context: Context, node: exp.Expr) -> list[exp.Expr]:
    """Translate an ORDER BY list, with the place of NULLs written out: the defaults of the two systems differ."""
    return [ordered(context.value(item.this).sql, item) for item in node.expressions]


def ordered(sql: exp.Expr, item: exp.Expr) -> exp.Expr:
    """Return an ORDER BY item over an expression that is already translated."""
    check_parts(item, frozenset({"this", "desc", "nulls_first", "with_fill"}))
    return exp.Ordered(this=sql, desc=bool(item.args.get("desc")), nulls_first=bool(item.args.get("nulls_first")))


@handles(*RANKINGS, parts="")
def _ranking(_: Context, node: exp.Expr) -> Value:
    return Value(type(node)(), INT64)


@handles(exp.Lag, exp.Lead, parts="this offset")
def _neighbour(context: Context, node: exp.Expr) -> Value:
    value = typed_null(context.value(node.this))
    offset = [context.typed(node.args["offset"], INT64, node.key.upper()).sql] if node.args.get("offset") else []
    return Value(call(node.key, value.sql, *offset), value.type)


@handles(exp.Window, parts="this partition_by order spec over")
def _window(context: Context, node: exp.Expr) -> Value:
    if not isinstance(node.this, WINDOWED):
        raise refused(f"OVER after {spelled(node.this)}")
    function = context.value(node.this)
    narrow = isinstance(function.sql, exp.Cast)
    partition = [context.value(item).sql for item in node.args.get("partition_by") or []]
    order = node.args.get("order")
    called = function.sql.this if narrow else function.sql
    window = exp.Window(this=called, partition_by=partition, over="OVER")
    if order:
        window.set("order", exp.Order(expressions=ordering(context, order)))
    if spec := node.args.get("spec"):
        window.set("spec", _frame(spec))
    return Value(cast(window, INT64) if narrow else window, function.type)


def _frame(spec: exp.Expr) -> exp.Expr:
    check_parts(spec, frozenset({"kind", "start", "start_side", "end", "end_side"}))
    for key in ("start", "end"):
        if isinstance(spec.args.get(key), exp.Expr) and not isinstance(spec.args[key], exp.Literal):
            raise refused("a computed window frame")
    return spec.copy()
