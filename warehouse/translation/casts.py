"""CAST and SAFE_CAST: which pairs of types are translated, and how."""

from __future__ import annotations

from warehouse.errors import invalid_query, refused
from warehouse.schema import Type
from warehouse.translation.value import LITERALS, NULL, Value, call, cast, literal_date

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
    ("STRING", "INT64"),
    ("STRING", "FLOAT64"),
    ("STRING", "BOOL"),
    ("STRING", "DATE"),
    ("STRING", "TIMESTAMP"),
}
TYPES = {"INT64", "FLOAT64", "STRING", "BOOL", "DATE", "TIMESTAMP", "DATETIME"}


def convert(value: Value, wanted: Type, *, safe: bool = False) -> Value:
    """CAST(value AS wanted), or SAFE_CAST; refused or invalid where BigQuery's result is not matched."""
    if wanted.name not in TYPES:
        raise refused(f"CAST to {wanted.name}")
    if value.type in (wanted, NULL):
        return Value(cast(value.sql, wanted), wanted)
    pair = (value.type.name, wanted.name)
    if value.type.repeated or wanted.repeated or value.type.name == "STRUCT":
        raise refused(f"CAST from {value.type.spelled()} to {wanted.spelled()}")
    if pair in PLAIN:
        return Value(cast(value.sql, wanted), wanted)
    if value.literal and wanted.name in LITERALS:
        return literal_date(value, wanted, safe=safe)
    if pair in CHECKED:
        prefix = "bq_safe_" if safe else "bq_"
        return Value(call(f"{prefix}{wanted.name}_from_{value.type.name}".lower(), value.sql), wanted)
    if pair[0] in ("FLOAT64", "TIMESTAMP", "DATETIME") and pair[1] == "STRING":
        raise refused(f"CAST from {pair[0]} to STRING")
    raise invalid_query(f"Invalid cast from {value.type.spelled()} to {wanted.spelled()}")
