"""Names, literals, parameters and operators."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery

from warehouse.errors import invalid_query, refused
from warehouse.schema import Type
from warehouse.translation.context import Context, handles
from warehouse.translation.conversions import coerce, convert, no_signature, supertype, unify
from warehouse.translation.syntax import literal_text, position, unrecognized
from warehouse.translation.value import BOOL, DATE, FLOAT64, INT64, NULL, STRING, Value, call, cast

ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)


@handles(exp.Literal, parts="this is_string")
def _literal(_: Context, node: exp.Expr) -> Value:
    if node.is_string:
        return Value(node.copy(), STRING, literal=True)
    return _number(node) if node.is_int else Value(cast(exp.Literal.string(node.name), FLOAT64), FLOAT64)


def _number(node: exp.Expr, sign: str = "") -> Value:
    if not -(2**63) <= int(sign + node.name) < 2**63:
        raise invalid_query(f"Invalid integer literal: {sign}{node.name}")
    return Value(cast(exp.Literal.string(sign + node.name), INT64), INT64)


@handles(exp.RawString, parts="this")
def _raw_string(_: Context, node: exp.Expr) -> Value:
    return Value(exp.Literal.string(node.name), STRING, literal=True)


@handles(exp.Boolean, parts="this")
def _boolean(_: Context, node: exp.Expr) -> Value:
    return Value(node.copy(), BOOL)


@handles(exp.Null, parts="")
def _null(_: Context, node: exp.Expr) -> Value:
    return Value(node.copy(), NULL)


@handles(exp.Paren, parts="this")
def _paren(context: Context, node: exp.Expr) -> Value:
    inner = context.unread(node.this)
    return Value(exp.Paren(this=inner.sql), inner.type, inner.origin, inner.literal)


@handles(exp.Parameter, parts="this")
def _parameter(context: Context, node: exp.Expr) -> Value:
    name = node.this.name if isinstance(node.this, exp.Var) else ""
    kind = context.statement.parameter(name)
    return Value(cast(exp.Parameter(this=exp.Var(this=name.lower())), kind), kind)


@handles(exp.Column, parts="this table db catalog")
@handles(exp.Dot)
def _name(context: Context, node: exp.Expr) -> Value:
    base, names = _parts(node)
    value = context.unread(base) if base else _start(context, names, node)
    for name in names:
        found = value.field(name.name)
        if found is None:
            where = position(name, context.statement.text)
            raise invalid_query(f"Field name {name.name} does not exist in {value.type.spelled()} at {where}")
        value = found
    return value


def _parts(node: exp.Expr) -> tuple[exp.Expr | None, list[exp.Expr]]:
    names: list[exp.Expr] = []
    while isinstance(node, exp.Dot):
        if not isinstance(node.expression, exp.Identifier):
            raise refused(f"a call of {node.expression.sql()} by a dotted name")
        names.insert(0, node.expression)
        node = node.this
    if isinstance(node, exp.Column):
        return None, [*node.parts, *names]
    return node, names


def _start(context: Context, names: list[exp.Expr], node: exp.Expr) -> Value:
    first = names.pop(0).name
    text = context.statement.text
    if context.after_select and (value := context.scope.alias(first)):
        return value
    found = context.scope.start(first)
    if isinstance(found, Value):
        return found
    if found is None:
        raise unrecognized(first, node, text)
    if whole := found.whole():
        return whole
    if not names:
        raise refused(f"the whole row of {first} as a value")
    column = names.pop(0)
    stored = next((name for name in found.types if name.lower() == column.name.lower()), None)
    if stored is None:
        raise invalid_query(f"Name {column.name} not found inside {first} at {position(column, text)}")
    return found.value(stored)


@handles(*ARITHMETIC)
def _arithmetic(context: Context, node: exp.Expr) -> Value:
    left, right = context.values(node, "this", "expression")
    if {left.type, right.type} == {DATE, INT64} and left.type == DATE and not isinstance(node, exp.Mul):
        days = cast(right.sql, INT64)
        return Value(
            type(node)(this=left.sql, expression=call("to_days", exp.Cast(this=days, to=exp.DataType.build("INT")))),
            DATE,
        )
    kind = supertype([left, right], f"operator {ARITHMETIC[type(node)]}")
    if kind not in (INT64, FLOAT64):
        raise no_signature(f"operator {ARITHMETIC[type(node)]}", [left, right])
    operands = [c.sql for v in (left, right) if (c := coerce(v, kind))]
    return Value(exp.Paren(this=type(node)(this=operands[0], expression=operands[1])), kind)


@handles(exp.Div, parts="this expression typed safe")
def _divide(context: Context, node: exp.Expr) -> Value:
    left, right = (context.typed(node.args[key], FLOAT64, "operator /") for key in ("this", "expression"))
    return Value(exp.Paren(this=exp.Div(this=left.sql, expression=right.sql)), FLOAT64)


@handles(exp.Neg, parts="this")
def _negative(context: Context, node: exp.Expr) -> Value:
    if isinstance(node.this, exp.Literal) and node.this.is_int:
        return _number(node.this, "-")
    value = context.value(node.this)
    if value.type not in (INT64, FLOAT64):
        raise no_signature("operator -", [value])
    return Value(exp.Paren(this=exp.Neg(this=value.sql)), value.type)


@handles(exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseLeftShift, exp.BitwiseRightShift)
def _bits(context: Context, node: exp.Expr) -> Value:
    left, right = (context.typed(node.args[key], INT64, "bitwise operator").sql for key in ("this", "expression"))
    names: dict[type[exp.Expr], str] = {
        exp.BitwiseXor: "xor",
        exp.BitwiseLeftShift: "bq_shift_left",
        exp.BitwiseRightShift: "bq_shift_right",
    }
    if name := names.get(type(node)):
        return Value(call(name, left, right), INT64)
    return Value(exp.Paren(this=type(node)(this=left, expression=right)), INT64)


@handles(exp.And, exp.Or)
def _logic(context: Context, node: exp.Expr) -> Value:
    left, right = (
        context.typed(node.args[key], BOOL, f"operator {node.key.upper()}").sql for key in ("this", "expression")
    )
    return Value(exp.Paren(this=type(node)(this=left, expression=right)), BOOL)


@handles(exp.Not, parts="this")
def _not(context: Context, node: exp.Expr) -> Value:
    return Value(exp.Paren(this=exp.Not(this=context.typed(node.this, BOOL, "operator NOT").sql)), BOOL)


@handles(*COMPARISONS)
def _compare(context: Context, node: exp.Expr) -> Value:
    operands = context.values(node, "this", "expression")
    (left, right), kind = unify(operands, f"operator {node.key.upper()}")
    if kind.repeated or kind.name == "STRUCT":
        raise refused(f"a comparison of {kind.spelled()}")
    return Value(exp.Paren(this=type(node)(this=left, expression=right)), BOOL)


@handles(exp.Between, parts="this low high")
def _between(context: Context, node: exp.Expr) -> Value:
    (value, low, high), _ = unify(context.values(node, "this", "low", "high"), "operator BETWEEN")
    return Value(exp.Paren(this=exp.Between(this=value, low=low, high=high)), BOOL)


@handles(exp.Is)
def _is(context: Context, node: exp.Expr) -> Value:
    value = context.value(node.this)
    if not isinstance(node.expression, exp.Null | exp.Boolean):
        raise refused(f"IS {node.expression.sql()}")
    return Value(exp.Paren(this=exp.Is(this=value.sql, expression=node.expression.copy())), BOOL)


@handles(exp.Like)
def _like(context: Context, node: exp.Expr) -> Value:
    pattern = literal_text(node.expression, "a LIKE pattern")
    if "\\" in pattern:
        raise refused("a LIKE pattern with a backslash")
    value = context.typed(node.this, STRING, "operator LIKE")
    return Value(exp.Paren(this=exp.Like(this=value.sql, expression=exp.Literal.string(pattern))), BOOL)


@handles(exp.In, parts="this expressions query unnest")
def _in(context: Context, node: exp.Expr) -> Value:
    if node.args.get("query"):
        value = context.value(node.this)
        inner = context.subquery(node.args["query"])
        kind = inner.only_column("IN")
        (left,), _ = unify([value], "operator IN")
        if not coerce(value, kind):
            raise no_signature("operator IN", [value, Value(exp.null(), kind)])
        return Value(exp.Paren(this=exp.In(this=left, query=exp.Subquery(this=inner.sql))), BOOL)
    if unnest := node.args.get("unnest"):
        array = context.value(unnest.expressions[0])
        value = context.typed(node.this, Type(array.type.name), "operator IN UNNEST")
        rows = exp.Select(expressions=[call("unnest", array.sql)])
        return Value(exp.Paren(this=exp.In(this=value.sql, query=exp.Subquery(this=rows))), BOOL)
    (value_sql, *items), _ = unify(context.values(node, "this", "expressions"), "operator IN")
    return Value(exp.Paren(this=exp.In(this=value_sql, expressions=items)), BOOL)


@handles(exp.Cast, parts="this to")
@handles(exp.TryCast, parts="this to safe")
def _cast(context: Context, node: exp.Expr) -> Value:
    value = context.value(node.this)
    return convert(value, declared_type(node.args["to"]), safe=isinstance(node, exp.TryCast))


def declared_type(node: exp.DataType) -> Type:
    """Return the type that a CAST or a typed literal names; refuse a type that is not translated."""
    names = {
        "BIGINT": "INT64",
        "DOUBLE": "FLOAT64",
        "TEXT": "STRING",
        "BOOLEAN": "BOOL",
        "TIMESTAMPTZ": "TIMESTAMP",
        "TIMESTAMP": "DATETIME",
        "DATE": "DATE",
        "DECIMAL": "NUMERIC",
        "BIGDECIMAL": "BIGNUMERIC",
    }
    if node.this == exp.DataType.Type.ARRAY and node.expressions:
        return Type(declared_type(node.expressions[0]).name, repeated=True)
    name = names.get(node.this.value)
    if name is None or node.expressions:
        raise refused(f"the type {node.sql(BigQuery)}")
    return Type(name)
