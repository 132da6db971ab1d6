"""A translated expression: its DuckDB syntax, its BigQuery type, and the stored column it came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from warehouse.errors import invalid_query, refused
from warehouse.schema import Path, Type

if TYPE_CHECKING:
    from warehouse.translation.scope import TableSource

INT64, FLOAT64, STRING, BOOL = Type("INT64"), Type("FLOAT64"), Type("STRING"), Type("BOOL")
DATE, TIMESTAMP, DATETIME, BYTES = Type("DATE"), Type("TIMESTAMP"), Type("DATETIME"), Type("BYTES")
NULL = Type("NULL")
DUCKDB_NAMES = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "TEXT",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMPTZ",
    "DATETIME": "TIMESTAMP",
    "BYTES": "BLOB",
}
LITERALS = {
    "DATE": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"),
    "TIMESTAMP": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?)?(Z| ?UTC|[+-][0-9]{2}:[0-9]{2})?"
    ),
}


@dataclass(frozen=True)
class Origin:
    """Where in a table a value is stored; `flat` while it is a plain path and not inside an array's elements."""

    source: TableSource
    path: Path
    flat: bool


@dataclass(frozen=True)
class Value:
    """A translated expression; `literal` marks a string literal, which BigQuery coerces to dates."""

    sql: exp.Expr
    type: Type
    origin: Origin | None = None
    literal: bool = False

    def field(self, name: str) -> Value | None:
        """The struct's field of that name, or None when it has none."""
        kind = None if self.type.repeated else self.type.child(name)
        if kind is None:
            return None
        stored = next(key for key in self.type.fields if key.lower() == name.lower())
        if self.origin is None:
            return Value(call("struct_extract", self.sql, exp.Literal.string(stored)), kind)
        origin = replace(self.origin, path=(*self.origin.path, stored))
        if origin.flat:
            return Value(origin.source.column_sql(origin.path), kind, origin)
        return Value(call("struct_extract", self.sql, exp.Literal.string(stored)), kind, origin)

    def read(self) -> Value:
        """The same value, noted as read from its table."""
        if self.origin:
            self.origin.source.read(self.origin)
        return self


def call(name: str, *arguments: exp.Expr | str) -> exp.Expr:
    """A DuckDB function call that sqlglot passes on as it is."""
    return exp.Anonymous(this=name, expressions=[exp.maybe_parse(a) for a in arguments])


def duckdb_type(kind: Type) -> exp.DataType:
    """The DuckDB type to cast to."""
    name = DUCKDB_NAMES[kind.name]
    return exp.DataType.build(f"{name}[]" if kind.repeated else name, dialect="duckdb")


def cast(sql: exp.Expr, kind: Type) -> exp.Expr:
    """DuckDB's own cast."""
    return exp.Cast(this=sql, to=duckdb_type(kind))


def coerce(value: Value, wanted: Type) -> Value | None:
    """The value as `wanted` where BigQuery coerces it without being asked, else None."""
    if value.type == wanted:
        return value
    if value.type == NULL:
        return Value(cast(value.sql, wanted) if wanted.name in DUCKDB_NAMES else value.sql, wanted)
    if value.type == INT64 and wanted == FLOAT64:
        return Value(cast(value.sql, FLOAT64), FLOAT64)
    if value.literal and wanted in (DATE, TIMESTAMP):
        return literal_date(value, wanted)
    return _renamed(value, wanted) if same_shape(value.type, wanted) else None


def _renamed(value: Value, wanted: Type) -> Value:
    """The struct with the fields called as wanted: BigQuery matches fields by place, DuckDB by name."""
    if value.type.repeated:
        raise refused("arrays of STRUCTs whose fields have different names as one type")
    parts = [
        Value(call("struct_extract", value.sql.copy(), exp.Literal.string(n)), k) for n, k in value.type.fields.items()
    ]
    kinds = wanted.fields.items()
    fields = [(name, c.sql) for (name, kind), part in zip(kinds, parts, strict=True) if (c := coerce(part, kind))]
    made = exp.Struct(
        expressions=[exp.PropertyEQ(this=exp.Literal.string(name), expression=sql) for name, sql in fields]
    )
    missing = exp.Is(this=value.sql.copy(), expression=exp.null())
    return Value(exp.Paren(this=exp.Case().when(missing, exp.null()).else_(made)), wanted)


def literal_date(value: Value, wanted: Type, *, safe: bool = False) -> Value:
    """A string literal as DATE or TIMESTAMP; a plain cast, so that DuckDB can skip row groups by it."""
    text = value.sql.name
    if not LITERALS[wanted.name].fullmatch(text):
        if safe:
            return Value(cast(exp.null(), wanted), wanted)
        raise invalid_query(f"Invalid {wanted.name.lower()}: '{text}'")
    kind = exp.TryCast if safe else exp.Cast
    return Value(kind(this=value.sql, to=duckdb_type(wanted)), wanted)


def same_shape(left: Type, right: Type) -> bool:
    """Whether two types differ in the names of fields only."""
    if (left.name, left.repeated, len(left.fields)) != (right.name, right.repeated, len(right.fields)):
        return False
    return all(map(same_shape, left.fields.values(), right.fields.values()))


def supertype(values: list[Value], construct: str) -> Type:
    """The type that all values can take, literals giving way to the rest; invalidQuery if there is none."""
    strong = [v for v in values if not v.literal and v.type != NULL]
    for candidate in [*(v.type for v in strong), *(v.type for v in values)]:
        if candidate != NULL and all(coerce(v, candidate) for v in values):
            return candidate
    if all(v.type == NULL for v in values):
        return INT64
    raise no_signature(construct, values)


def unify(values: list[Value], construct: str) -> tuple[list[exp.Expr], Type]:
    """The values' DuckDB syntax, all coerced to one type, and that type."""
    kind = supertype(values, construct)
    return [c.sql for v in values if (c := coerce(v, kind))], kind


def no_signature(construct: str, values: list[Value]) -> Exception:
    """BigQuery's error for operands whose types do not fit."""
    kinds = ", ".join(v.type.spelled() for v in values)
    return invalid_query(f"No matching signature for {construct} for argument types: {kinds}")
