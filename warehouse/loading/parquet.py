"""Parquet: its columns as BigQuery's fields, and its rows."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.definitions import Resource, invalid
from warehouse.loading.rows import Rows, arrow_schema, unreadable
from warehouse.schema import LEGACY_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH_ROWS = 50_000
MAX_SCALE, MAX_WHOLE_DIGITS = 9, 29
SCALARS: list[tuple[Callable[[pa.DataType], bool], str]] = [
    (pa.types.is_boolean, "BOOL"),
    (pa.types.is_integer, "INT64"),
    (pa.types.is_float32, "FLOAT64"),
    (pa.types.is_float64, "FLOAT64"),
    (pa.types.is_string, "STRING"),
    (pa.types.is_large_string, "STRING"),
    (pa.types.is_binary, "BYTES"),
    (pa.types.is_large_binary, "BYTES"),
    (pa.types.is_fixed_size_binary, "BYTES"),
    (pa.types.is_date32, "DATE"),
]
WIDENING = {("NUMERIC", "BIGNUMERIC")}


def read_parquet(file: IO[bytes], wanted: list[Resource], *, lists: bool) -> Rows:
    """Return the rows of a Parquet file, with the types of the wanted fields; without any, of the file's own.

    `lists` says whether Parquet's lists are REPEATED fields (`enableListInference`).
    """
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(f"Input file is not in Parquet format. {error}") from None
    found = [_field(column, lists=lists) for column in parquet.schema_arrow]
    if not wanted and any(field["type"] == "BIGNUMERIC" for field in found):
        raise unreadable("a decimal of Parquet that is no NUMERIC needs a schema that says BIGNUMERIC")
    fields = _matched(found, wanted) if wanted else found
    return Rows(fields, _batches(parquet, arrow_schema(fields)))


def _batches(parquet: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in parquet.iter_batches(BATCH_ROWS):
        yield batch.rename_columns(schema.names).cast(schema)


def _field(column: pa.Field[pa.DataType], *, lists: bool) -> Resource:
    kind, mode = column.type, "NULLABLE" if column.nullable else "REQUIRED"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not lists:
            raise invalid(f"The embedded warehouse reads the list {column.name} with enableListInference only")
        kind, mode = kind.value_type, "REPEATED"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    name = _type_name(column.name, kind)
    field: Resource = {"name": column.name, "type": LEGACY_NAMES.get(name, name), "mode": mode}
    if name == "STRUCT":
        children = [kind.field(place) for place in range(kind.num_fields)]
        field["fields"] = [_nullable(_field(child, lists=lists)) for child in children]
    return field


def _nullable(field: Resource) -> Resource:
    """Return a nested field that may be NULL: REQUIRED is kept of columns only."""
    return field | {"mode": "NULLABLE"} if field["mode"] == "REQUIRED" else field


def _type_name(column: str, kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "STRUCT"
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return "TIMESTAMP" if kind.tz else "DATETIME"
    if pa.types.is_decimal(kind):
        fits = kind.scale <= MAX_SCALE and kind.precision - kind.scale <= MAX_WHOLE_DIGITS
        return "NUMERIC" if fits else "BIGNUMERIC"
    for test, name in SCALARS:
        if test(kind):
            return name
    raise invalid(f"The embedded warehouse does not read the type {kind} of the Parquet column {column}")


def _matched(found: list[Resource], wanted: list[Resource], prefix: str = "") -> list[Resource]:
    """Return the wanted fields that the file has, in the order of the file; raise `invalid` for any others."""
    by_name = {str(field["name"]).lower(): field for field in wanted}
    matched = []
    for field in found:
        name = f"{prefix}{field['name']}"
        target = by_name.get(str(field["name"]).lower())
        # Arrow matches nested fields by their very names, and silently makes NULL of others.
        if target is None or (prefix and target["name"] != field["name"]):
            raise unreadable(f"Parquet column '{name}' is not in the schema")
        same = field["type"] == target["type"] or (field["type"], target["type"]) in WIDENING
        if not same or "REPEATED" in {field["mode"], target["mode"]} != {"REPEATED"}:
            raise unreadable(
                f"Parquet column '{name}' has type {field['mode']} {field['type']} which does not match the target "
                f"{target['mode']} {target['type']}"
            )
        inner = {"fields": _matched(field["fields"], target["fields"], f"{name}.")} if "fields" in field else {}
        matched.append(target | inner)
    return matched
