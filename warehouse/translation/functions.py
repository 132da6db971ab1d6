"""Functions of text, numbers, conditions, arrays and structs."""

from __future__ import annotations

from typing import NamedTuple

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.schema import Type
from warehouse.translation.context import Context, handles
from warehouse.translation.conversions import coerce, no_signature, unify
from warehouse.translation.patterns import capturing_groups
from warehouse.translation.syntax import literal_text
from warehouse.translation.value import BOOL, BYTES, FLOAT64, INT64, STRING, Value, call, cast


class Plain(NamedTuple):
    """A function whose arguments have fixed types: DuckDB's name, (part, type) of each, and the result."""

    target: str
    arguments: tuple[tuple[str, Type], ...]
    result: Type


def _plain(target: str, result: Type, *kinds: Type, keys: str = "this expression") -> Plain:
    return Plain(target, tuple(zip(keys.split(), kinds, strict=False)), result)


PLAIN: dict[type[exp.Expr], Plain] = {
    exp.Lower: _plain("bq_lower", STRING, STRING),
    exp.Upper: _plain("bq_upper", STRING, STRING),
    exp.Length: _plain("length", INT64, STRING),
    exp.Left: _plain("bq_left", STRING, STRING, INT64),
    exp.Right: _plain("bq_right", STRING, STRING, INT64),
    exp.StartsWith: _plain("starts_with", BOOL, STRING, STRING),
    exp.EndsWith: _plain("ends_with", BOOL, STRING, STRING),
    exp.Replace: _plain("replace", STRING, STRING, STRING, STRING, keys="this expression replacement"),
    exp.Split: _plain("string_split", Type("STRING", repeated=True), STRING, STRING),
    exp.StrPosition: _plain("strpos", INT64, STRING, STRING, keys="this substr"),
    exp.SafeDivide: _plain("bq_safe_divide", FLOAT64, FLOAT64, FLOAT64),
    exp.Pow: _plain("bq_pow", FLOAT64, FLOAT64, FLOAT64),
    exp.Ln: _plain("ln", FLOAT64, FLOAT64),
    exp.Exp: _plain("bq_exp", FLOAT64, FLOAT64),
    exp.Sqrt: _plain("sqrt", FLOAT64, FLOAT64),
    exp.Floor: _plain("floor", FLOAT64, FLOAT64),
    exp.Ceil: _plain("ceil", FLOAT64, FLOAT64),
    exp.Trunc: _plain("trunc", FLOAT64, FLOAT64),
    exp.BitwiseNot: _plain("~", INT64, INT64),
    exp.LowerHex: _plain("bq_to_hex", STRING, BYTES),
}


@handles(*PLAIN, parts="this expression replacement substr binary")
def _plain_function(context: Context, node: exp.Expr) -> Value:
    plain = PLAIN[type(node)]
    name = f"function {node.sql_name()}" if isinstance(node, exp.Func) else "operator ~"
    operands = [context.typed(node.args[key], kind, name).sql for key, kind in plain.arguments]
    return Value(call(plain.target, *operands), plain.result)


@handles(exp.Chr, parts="expressions")
def _chr(context: Context, node: exp.Expr) -> Value:
    return Value(call("bq_chr", context.typed(node.expressions[0], INT64, "function CHR").sql), STRING)


@handles(exp.Log)
def _log(context: Context, node: exp.Expr) -> Value:
    base, value = (context.typed(node.args[k], FLOAT64, "function LOG").sql for k in ("this", "expression"))
    if node.this == exp.Literal.number(10):
        return Value(call("log10", value), FLOAT64)
    return Value(call("bq_log", value, base), FLOAT64)


@handles(exp.Round, parts="this")
def _round(context: Context, node: exp.Expr) -> Value:
    # To decimals is refused: BigQuery rounds the exact value, DuckDB its product with a power of ten.
    return Value(call("round", context.typed(node.this, FLOAT64, "function ROUND").sql), FLOAT64)


@handles(exp.Abs, parts="this")
def _abs(context: Context, node: exp.Expr) -> Value:
    value = context.value(node.this)
    if value.type not in (INT64, FLOAT64):
        raise no_signature("function ABS", [value])
    return Value(call("abs", value.sql), value.type)


@handles(exp.Mod, exp.IntDiv)
def _integer_division(context: Context, node: exp.Expr) -> Value:
    name = "function MOD" if isinstance(node, exp.Mod) else "function DIV"
    left, right = (context.typed(node.args[key], INT64, name).sql for key in ("this", "expression"))
    return Value(exp.Paren(this=type(node)(this=left, expression=right)), INT64)


@handles(exp.Concat, parts="expressions safe coalesce")
@handles(exp.DPipe, parts="this expression safe")
def _concat(context: Context, node: exp.Expr) -> Value:
    # DuckDB's own CONCAT skips NULLs.
    parts = node.expressions or [node.this, node.expression]
    sqls = [context.typed(part, STRING, "function CONCAT").sql for part in parts]
    joined = sqls[0]
    for sql in sqls[1:]:
        joined = exp.DPipe(this=joined, expression=sql)
    return Value(exp.Paren(this=joined), STRING)


@handles(exp.Substring, parts="this start length")
def _substring(context: Context, node: exp.Expr) -> Value:
    text = context.typed(node.this, STRING, "function SUBSTR").sql
    numbers = [
        context.typed(node.args[k], INT64, "function SUBSTR").sql for k in ("start", "length") if node.args.get(k)
    ]
    return Value(call("bq_substr_length" if len(numbers) == 2 else "bq_substr", text, *numbers), STRING)


@handles(exp.SHA2Digest, parts="this length")
def _sha256(context: Context, node: exp.Expr) -> Value:
    if node.args["length"].name != "256":
        raise refused("function SHA512")
    return Value(call("bq_sha256", context.typed(node.this, STRING, "function SHA256").sql), BYTES)


@handles(exp.MD5Digest, parts="this")
def _md5(context: Context, node: exp.Expr) -> Value:
    return Value(call("bq_md5", context.typed(node.this, STRING, "function MD5").sql), BYTES)


@handles(exp.MD5, parts="this")
def _md5_as_text(context: Context, node: exp.Expr) -> Value:
    # TO_HEX(MD5(...)) is one function to the parser.
    return Value(call("md5", context.typed(node.this, STRING, "function MD5").sql), STRING)


@handles(exp.RegexpLike)
def _regexp_contains(context: Context, node: exp.Expr) -> Value:
    pattern = literal_text(node.expression, "a regular expression")
    text = context.typed(node.this, STRING, "function REGEXP_CONTAINS")
    return Value(call("regexp_matches", text.sql, exp.Literal.string(pattern)), BOOL)


@handles(exp.RegexpExtract, parts="this expression group null_if_pos_overflow null_if_no_match empty_if_group_missing")
def _regexp_extract(context: Context, node: exp.Expr) -> Value:
    pattern = literal_text(node.expression, "a regular expression")
    groups = capturing_groups(pattern)
    text = context.typed(node.this, STRING, "function REGEXP_EXTRACT").sql
    part = exp.Literal.number(groups)
    return Value(call("bq_regexp_extract", text, exp.Literal.string(pattern), part), STRING)


@handles(exp.Coalesce, parts="this expressions")
@handles(exp.Nullif)
def _coalesce(context: Context, node: exp.Expr) -> Value:
    name = "NULLIF" if isinstance(node, exp.Nullif) else "COALESCE"
    operands, kind = unify(context.values(node, "this", "expressions", "expression"), f"function {name}")
    return Value(call(name, *operands), kind)


@handles(exp.Greatest, exp.Least, parts="this expressions ignore_nulls")
def _extreme(context: Context, node: exp.Expr) -> Value:
    # NULL wins in BigQuery and is skipped by DuckDB.
    operands, kind = unify(context.values(node, "this", "expressions"), f"function {node.key.upper()}")
    missing = exp.or_(*(exp.Is(this=o.copy(), expression=exp.null()) for o in operands))
    return Value(exp.Paren(this=exp.Case().when(missing, exp.null()).else_(call(node.key, *operands))), kind)


@handles(exp.If, parts="this true false")
def _if(context: Context, node: exp.Expr) -> Value:
    condition = context.typed(node.this, BOOL, "function IF").sql
    (yes, no), kind = unify(context.values(node, "true", "false"), "function IF")
    return Value(exp.Paren(this=exp.Case().when(condition, yes).else_(no)), kind)


@handles(exp.Case, parts="this ifs default")
def _case(context: Context, node: exp.Expr) -> Value:
    branches = node.args["ifs"]
    results = [context.value(branch.args["true"]) for branch in branches]
    default = context.value(node.args["default"]) if node.args.get("default") else context.value(exp.null())
    sqls, kind = unify([*results, default], "CASE")
    case = exp.Case()
    for branch, sql in zip(branches, sqls, strict=False):
        condition = exp.EQ(this=node.this.copy(), expression=branch.this.copy()) if node.this else branch.this
        case = case.when(context.typed(condition, BOOL, "CASE").sql, sql)
    return Value(exp.Paren(this=case.else_(sqls[-1])), kind)


@handles(exp.Struct, parts="expressions")
def _struct(context: Context, node: exp.Expr) -> Value:
    return struct_value(struct_fields(context, node))


def struct_fields(context: Context, node: exp.Expr) -> dict[str, Value]:
    """Translate the fields of a STRUCT that is written out."""
    fields: dict[str, Value] = {}
    for index, item in enumerate(node.expressions, 1):
        named = isinstance(item, exp.PropertyEQ)
        name = item.this.name if named else output_name(item) or f"_field_{index}"
        if name.lower() in {taken.lower() for taken in fields}:
            raise refused(f"a STRUCT with two fields named {name}")
        fields[name] = context.value(item.expression if named else item)
    return fields


def struct_value(fields: dict[str, Value]) -> Value:
    """Return a struct of the fields; an untyped NULL becomes INT64."""
    typed = {name: typed_null(value) for name, value in fields.items()}
    pairs = [exp.PropertyEQ(this=exp.Literal.string(name), expression=v.sql) for name, v in typed.items()]
    return Value(exp.Struct(expressions=pairs), Type("STRUCT", fields={n: v.type for n, v in typed.items()}))


def typed_null(value: Value) -> Value:
    """Return the value; an untyped NULL becomes INT64, as in BigQuery's results."""
    return value if value.type.name != "NULL" else Value(cast(value.sql, INT64), INT64)


def output_name(node: exp.Expr) -> str | None:
    """Return the name of a result column or a struct field, with AS or without, or None when it has none."""
    if isinstance(node, exp.Alias):
        return str(node.alias)
    if isinstance(node, exp.Column):
        return node.name
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return node.expression.name
    return None


@handles(exp.Array, parts="expressions value_constructor struct_name_inheritance")
def _array(context: Context, node: exp.Expr) -> Value:
    items = node.expressions
    if len(items) == 1 and isinstance(items[0], exp.Query):
        inner = context.subquery(items[0])
        kind = inner.only_column("ARRAY")
        if kind.repeated:
            raise refused("an array of arrays")
        sql = _each_element(inner.sql) if _is_each_element(items[0]) else call("array", inner.sql)
        return Value(sql, Type(kind.name, repeated=True, fields=kind.fields))
    if not items:
        return Value(cast(exp.Array(expressions=[]), Type("INT64", repeated=True)), Type("INT64", repeated=True))
    operands, kind = unify([context.value(item) for item in items], "ARRAY")
    if kind.repeated:
        raise invalid_query("Cannot construct array with element type ARRAY because nested arrays are not supported")
    return Value(exp.Array(expressions=operands), Type(kind.name, repeated=True, fields=kind.fields))


def _is_each_element(query: exp.Query) -> bool:
    """Return whether the query is one expression for each element of an array, in the array's order."""
    parts = {key for key, part in query.args.items() if part}
    array = query.args["from_"].this if "from_" in parts else None
    plain = parts <= {"kind", "expressions", "from_"} and isinstance(array, exp.Unnest) and not array.args.get("offset")
    return plain and not any(item.find(exp.AggFunc, exp.Window, exp.Query) for item in query.expressions)


def _each_element(query: exp.Expr) -> exp.Expr:
    """Return the elements by a lambda. DuckDB would join the sub-query to each row by the value of the whole array."""
    [result] = query.expressions
    elements = query.args["from_"].this
    [unnested] = elements.this.expressions
    element = exp.to_identifier(elements.alias, quoted=True)

    def of_element(node: exp.Expr) -> exp.Expr:
        is_element = isinstance(node, exp.Column) and node.table == node.name == elements.alias
        return exp.Column(this=element.copy()) if is_element else node

    array = exp.Coalesce(this=unnested.this.expressions[0], expressions=[exp.Array(expressions=[])])
    each = exp.Lambda(this=result.this.transform(of_element), expressions=[element])
    return call("list_transform", array, each)


@handles(exp.Bracket, parts="this expressions offset safe")
def _subscript(context: Context, node: exp.Expr) -> Value:
    array = context.value(node.this)
    if not array.type.repeated:
        raise refused(f"a subscript of {array.type.spelled()}")
    index = context.typed(node.expressions[0], INT64, "array subscript").sql
    if node.args.get("offset"):
        index = exp.Paren(this=exp.Sub(this=index, expression=exp.Literal.number(1)))
    name = "bq_safe_at" if node.args.get("safe") else "bq_at"
    return Value(call(name, array.sql, index), Type(array.type.name, fields=array.type.fields))


@handles(exp.ArraySize, parts="this")
def _array_length(context: Context, node: exp.Expr) -> Value:
    array = context.value(node.this)
    if not array.type.repeated:
        raise no_signature("function ARRAY_LENGTH", [array])
    return Value(call("len", array.sql), INT64)


@handles(exp.ArrayConcat, parts="this expressions")
def _array_concat(context: Context, node: exp.Expr) -> Value:
    arrays = context.values(node, "this", "expressions")
    operands, kind = unify(arrays, "function ARRAY_CONCAT")
    if not kind.repeated:
        raise no_signature("function ARRAY_CONCAT", arrays)
    # DuckDB's own skips NULLs.
    missing = exp.or_(*(exp.Is(this=o.copy(), expression=exp.null()) for o in operands))
    joined = exp.Case().when(missing, exp.null()).else_(call("list_concat", *operands))
    return Value(exp.Paren(this=joined), kind)


@handles(exp.GenerateSeries, parts="start end step")
def _generate_array(context: Context, node: exp.Expr) -> Value:
    bounds = context.values(node, "start", "end", "step")
    if any(coerce(v, INT64) is None for v in bounds):
        raise refused("GENERATE_ARRAY of anything but INT64")
    return Value(call("generate_series", *(v.sql for v in bounds)), Type("INT64", repeated=True))


@handles(exp.Exists, parts="this")
def _exists(context: Context, node: exp.Expr) -> Value:
    return Value(exp.Exists(this=context.subquery(node.this).sql), BOOL)


@handles(exp.Subquery, parts="this")
def _scalar_subquery(context: Context, node: exp.Expr) -> Value:
    inner = context.subquery(node.this)
    return Value(exp.Subquery(this=inner.sql), inner.only_column("a scalar sub-query"))
