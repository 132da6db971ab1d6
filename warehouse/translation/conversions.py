"""Conversions between types: those that BigQuery makes without being asked, and CAST."""

from __future__ import annotations

import re

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.schema import DUCKDB_NAMES, Type
from warehouse.translation.value import (
    DATE,
    INT64,
    NULL,
    TIMESTAMP,
    Value,
    call,
    cast,
    duckdb_type,
    struct_field,
)

PLAIN = {
    ("INT64", "FLOAT64"),
    ("INT64", "STRING"),
    ("INT64", "BOOL"),
    ("BOOL", "INT64"),
    ("BOOL", "STRING"),
    ("DATE", "STRING"),
    ("DATE", "TIMESTAMP"),
    ("DATE", "DATETIME"),
    ("TIMESTAMP", "DATE"),
    ("TIMESTAMP", "DATETIME"),
    ("DATETIME", "DATE"),
    ("DATETIME", "TIMESTAMP"),
}
CHECKED = {
    ("FLOAT64", "INT64"),
    ("FLOAT64", "STRING"),
    ("STRING", "INT64"),
    ("STRING", "FLOAT64"),
    ("STRING", "BOOL"),
    ("STRING", "DATE"),
    ("STRING", "TIMESTAMP"),
}
WIDENING = {
    ("INT64", "FLOAT64"),
    ("INT64", "NUMERIC"),
    ("INT64", "BIGNUMERIC"),
    ("NUMERIC", "BIGNUMERIC"),
    ("NUMERIC", "FLOAT64"),
    ("BIGNUMERIC", "FLOAT64"),
}
DECIMALS = {"NUMERIC", "BIGNUMERIC"}
TYPES = {"INT64", "FLOAT64", "STRING", "BOOL", "DATE", "TIMESTAMP", "DATETIME", "NUMERIC", "BIGNUMERIC"}
LITERALS = {
    "DATE": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"),
    "TIMESTAMP": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?)?(Z| ?UTC|[+-][0-9]{2}:[0-9]{2})?"
    ),
}


def coerce(value: Value, wanted: Type) -> Value | None:
    """Return the value as `wanted` where BigQuery coerces it without being asked, else None."""
    if value.type == wanted:
        return value
    if value.type == NULL:
        return Value(cast(value.sql, wanted) if wanted.name in DUCKDB_NAMES else value.sql, wanted)
    if (value.type.name, wanted.name) in WIDENING and not value.type.repeated and not wanted.repeated:
        return Value(cast(value.sql, wanted), wanted)
    if value.literal and wanted in (DATE, TIMESTAMP):
        return literal_date(value, wanted)
    return _renamed(value, wanted) if same_shape(value.type, wanted) else None


def _renamed(value: Value, wanted: Type) -> Value:
    """Return the struct with its fields renamed: BigQuery matches fields by place, DuckDB by name."""
    if value.type.repeated:
        raise refused("arrays of STRUCTs whose fields have different names as one type")
    parts = [Value(struct_field(value.sql.copy(), name), kind) for name, kind in value.type.fields.items()]
    kinds = wanted.fields.items()
    fields = [(name, c.sql) for (name, kind), part in zip(kinds, parts, strict=True) if (c := coerce(part, kind))]
    made = exp.Struct(
        expressions=[exp.PropertyEQ(this=exp.Literal.string(name), expression=sql) for name, sql in fields]
    )
    missing = exp.Is(this=value.sql.copy(), expression=exp.null())
    return Value(exp.Paren(this=exp.Case().when(missing, exp.null()).else_(made)), wanted)


def literal_date(value: Value, wanted: Type, *, safe: bool = False) -> Value:
    """Return a string literal as DATE or TIMESTAMP; a plain cast, so that DuckDB can skip row groups by it."""
    text = value.sql.name
    if not LITERALS[wanted.name].fullmatch(text):
        if safe:
            return Value(cast(exp.null(), wanted), wanted)
        raise invalid_query(f"Invalid {wanted.name.lower()}: '{text}'")
    kind = exp.TryCast if safe else exp.Cast
    return Value(kind(this=value.sql, to=duckdb_type(wanted)), wanted)


def same_shape(left: Type, right: Type) -> bool:
    """Return whether two types differ at most in the names of their fields."""
    if (left.name, left.repeated, len(left.fields)) != (right.name, right.repeated, len(right.fields)):
        return False
    return all(map(same_shape, left.fields.values(), right.fields.values()))


def supertype(values: list[Value], construct: str) -> Type:
    """Return the type that all values can take, literals giving way; raise invalidQuery when there is none."""
    strong = [v for v in values if not v.literal and v.type != NULL]
    for candidate in [*(v.type for v in strong), *(v.type for v in values)]:
        if candidate != NULL and all(coerce(v, candidate) for v in values):
            return candidate
    if all(v.type == NULL for v in values):
        return INT64
    raise no_signature(construct, values)


def unify(values: list[Value], construct: str) -> tuple[list[exp.Expr], Type]:
    """Return the values' DuckDB syntax, all coerced to one type, and that type."""
    kind = supertype(values, construct)
    return [c.sql for v in values if (c := coerce(v, kind))], kind


def no_signature(construct: str, values: list[Value]) -> Exception:
    """Return BigQuery's error for operands whose types do not fit."""
    if any(v.type.name in DECIMALS for v in values):
        return refused(f"{construct} of NUMERIC or BIGNUMERIC")
    kinds = ", ".join(v.type.spelled() for v in values)
    return invalid_query(f"No matching signature for {construct} for argument types: {kinds}")


def convert(value: Value, wanted: Type, *, safe: bool = False) -> Value:
    """Return CAST(value AS wanted), or SAFE_CAST; raise BigQueryError where DuckDB would not match BigQuery."""
    if wanted.name not in TYPES:
        raise refused(f"CAST to {wanted.name}")
    if value.type in (wanted, NULL):
        return Value(cast(value.sql, wanted), wanted)
    pair = (value.type.name, wanted.name)
    if value.type.repeated or wanted.repeated or value.type.name == "STRUCT":
        raise refused(f"CAST from {value.type.spelled()} to {wanted.spelled()}")
    if pair in PLAIN or pair in WIDENING:
        return Value(cast(value.sql, wanted), wanted)
    if value.literal and wanted.name in LITERALS:
        return literal_date(value, wanted, safe=safe)
    if pair in CHECKED:
        prefix = "bq_safe_" if safe else "bq_"
        return Value(call(f"{prefix}{wanted.name}_from_{value.type.name}".lower(), value.sql), wanted)
    if DECIMALS & set(pair) or (pair[0] in ("TIMESTAMP", "DATETIME") and pair[1] == "STRING"):
        raise refused(f"CAST from {pair[0]} to {pair[1]}")
    raise invalid_query(f"Invalid cast from {value.type.spelled()} to {wanted.spelled()}")
