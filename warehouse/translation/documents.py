"""Functions of JSON: what a text of JSON has, and values as such a text."""

from __future__ import annotations

from sqlglot import exp

from warehouse.errors import refused
from warehouse.schema import Type
from warehouse.translation.context import Context, handles
from warehouse.translation.functions import struct_fields
from warehouse.translation.value import BOOL, INT64, STRING, Value, call

WRITTEN = {
    INT64: "bq_json_of_int64",
    STRING: "bq_json_of_string",
    BOOL: "bq_json_of_bool",
    Type("STRING", repeated=True): "bq_json_of_strings",
}


@handles(exp.JSONExtractScalar, parts="this expression scalar_only json_type")
def _json_value(context: Context, node: exp.Expr) -> Value:
    return _extracted(context, node, "JSON_VALUE")


@handles(exp.JSONExtract, parts="this expression")
def _json_query(context: Context, node: exp.Expr) -> Value:
    return _extracted(context, node, "JSON_QUERY")


def _extracted(context: Context, node: exp.Expr, name: str) -> Value:
    text, path = context.typed(node.this, STRING, f"function {name}"), node.expression
    names = path.expressions[1:] if isinstance(path, exp.JSONPath) else []
    if not names or not all(isinstance(part, exp.JSONPathKey) and str(part.this).isidentifier() for part in names):
        raise refused(f"{name} of a path other than names, such as '$.page',")
    spelled_path = exp.Literal.string(".".join(["$", *(str(part.this) for part in names)]))
    return Value(call(f"bq_{name.lower()}", text.sql, spelled_path), STRING)


@handles(exp.JSONFormat, parts="this")
def _to_json_string(context: Context, node: exp.Expr) -> Value:
    if not isinstance(node.this, exp.Struct):
        return _written(context.value(node.this))
    # Field by field: a struct that was made first would be made again for each of them.
    parts: list[exp.Expr] = []
    for name, value in struct_fields(context, node.this).items():
        if not name.isidentifier() or name.startswith("_field_"):
            raise refused(f"TO_JSON_STRING of a field named {name}")
        parts += [exp.Literal.string(f'{"," if parts else "{"}"{name}":'), _written(value).sql]
    return Value(call("concat", *parts, exp.Literal.string("}")), STRING)


def _written(value: Value) -> Value:
    name = WRITTEN.get(value.type)
    if name is None:
        raise refused(f"TO_JSON_STRING of {value.type.spelled()}")
    return Value(call(name, value.sql), STRING)
