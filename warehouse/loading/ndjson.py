"""Lines of JSON: each a row, converted to the types of a table's fields."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
import math
import re
from decimal import Context, Decimal, InvalidOperation
from typing import IO, TYPE_CHECKING, Any, cast

import pyarrow as pa

from warehouse.definitions import Resource, standard_name
from warehouse.loading.rows import Rows, arrow_schema, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from warehouse.errors import BigQueryError

BATCH_ROWS = 10_000
MAX_LINE = 100 * 1024 * 1024
MAX_DECIMAL, NINTH, EXACT = Decimal(10) ** 29, Decimal("1e-9"), Context(prec=100)
GZIP = b"\x1f\x8b"
Cell = Any


def read_ndjson(file: IO[bytes], fields: list[Resource], *, ignore_unknown: bool) -> Rows:
    """Return the rows of a file of JSON, a row a line, which may be compressed with gzip."""
    start = file.read(len(GZIP))
    file.seek(0)
    lines = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if start == GZIP else file
    return Rows(fields, _batches(lines, fields, ignore_unknown=ignore_unknown))


def _batches(lines: IO[bytes], fields: list[Resource], *, ignore_unknown: bool) -> Iterator[pa.RecordBatch]:
    schema = arrow_schema(fields)
    read = _record(fields, "", ignore_unknown=ignore_unknown)
    rows: list[dict[str, Cell]] = []
    position = number = 0
    while line := lines.readline(MAX_LINE):
        start, position = position, position + len(line)
        if not line.strip():
            continue
        number += 1
        try:
            rows.append(read(json.loads(line, parse_float=Decimal)))
        except (ValueError, RecursionError) as error:
            raise _bad_row(number, start, str(error)) from None
        if len(rows) == BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows = []
    yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _bad_row(number: int, position: int, message: str) -> BigQueryError:
    error = unreadable(
        f"JSON table encountered too many errors, giving up. Rows: {number}; errors: 1. "
        "Please look into the errors[] collection for more details."
    )
    error.causes = (unreadable(f"JSON parsing error in row starting at position {position}: {message}"),)
    return error


def _record(fields: list[Resource], prefix: str, *, ignore_unknown: bool) -> Callable[[Cell], dict[str, Cell]]:
    """Return a function from a JSON object to a row; it raises ValueError for what does not fit."""
    readers = {
        str(field["name"]).lower(): (field["name"], field["mode"], _reader(field, prefix, ignore_unknown))
        for field in fields
    }
    required = [name for name, mode, _ in readers.values() if mode == "REQUIRED"]

    def read(value: Cell) -> dict[str, Cell]:
        if not isinstance(value, dict):
            raise ValueError(f"a JSON object is expected{f' for the record {prefix[:-1]}' if prefix else ''}")
        row: dict[str, Cell] = {}
        for key, cell in value.items():
            if known := readers.get(key.lower()):
                name, mode, reader = known
                if cell is None and mode != "NULLABLE":
                    raise ValueError(f"Only optional fields can be set to NULL. Field: {prefix}{name}; Value: NULL")
                row[name] = None if cell is None else reader(cell)
            elif not ignore_unknown:
                raise ValueError(f"No such field: {prefix}{key}.")
        if missing := [name for name in required if name not in row]:
            raise ValueError(f"Missing required fields: {prefix}{missing[0]}.")
        return row

    return read


def _reader(field: Resource, prefix: str, ignore_unknown: bool) -> Callable[[Cell], Cell]:
    path = f"{prefix}{field['name']}"
    if field["type"] == "RECORD":
        one: Callable[[Cell], Cell] = _record(field["fields"], f"{path}.", ignore_unknown=ignore_unknown)
    else:
        one = _scalar(path, standard_name(field))
    if field["mode"] != "REPEATED":
        return one

    def many(value: Cell) -> list[Cell]:
        if not isinstance(value, list):
            raise ValueError(f"Expected an array for the repeated field: {path}.")
        if None in value:
            raise ValueError(f"Only optional fields can be set to NULL. Field: {path}; Value: NULL")
        return [one(item) for item in value]

    return many


def _scalar(path: str, kind: str) -> Callable[[Cell], Cell]:
    convert = CONVERSIONS[kind]

    def read(value: Cell) -> Cell:
        if isinstance(value, list):
            raise ValueError(f"Array specified for non-repeated field: {path}.")
        if isinstance(value, dict):
            raise ValueError(f"JSON object specified for non-record field: {path}.")
        try:
            return convert(value)
        except (ValueError, KeyError, TypeError, InvalidOperation, OverflowError):
            raise ValueError(
                f"Could not convert value to {kind.lower()}. Field: {path}; Value: {str(value)[:100]}"
            ) from None

    return read


def _integer(value: Cell) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]{1,20}(\.0+)?", str(value)):
        raise ValueError(value)
    number = int(str(value).partition(".")[0])
    if not -(2**63) <= number < 2**63:
        raise OverflowError(value)
    return number


def _float(value: Cell) -> float:
    number = float(_plain(value))
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _decimal(value: Cell) -> Decimal:
    number = Decimal(_plain(value))
    if not number.is_finite() or abs(number) >= MAX_DECIMAL or number != number.quantize(NINTH, context=EXACT):
        raise ValueError(value)
    return number


def _plain(value: Cell) -> str:
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", str(value)):
        raise ValueError(value)
    return str(value)


def _bool(value: Cell) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _text(value: Cell) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _timestamp(value: Cell) -> dt.datetime:
    moment = _moment(re.sub(r"\s*(UTC|Z|z)$", "+00:00", _text(value).strip()))
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _datetime(value: Cell) -> dt.datetime:
    moment = _moment(_text(value).strip())
    if moment.tzinfo:
        raise ValueError(value)
    return moment


def _moment(text: str) -> dt.datetime:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?([+-]\d{2}:\d{2})?", text):
        raise ValueError(text)
    return dt.datetime.fromisoformat(text)


CONVERSIONS: dict[str, Callable[[Cell], Cell]] = {
    "INT64": _integer,
    "FLOAT64": _float,
    "STRING": _text,
    "BOOL": _bool,
    "DATE": lambda value: dt.date.fromisoformat(_text(value)),
    "TIMESTAMP": _timestamp,
    "DATETIME": _datetime,
    "BYTES": lambda value: base64.b64decode(_text(value), validate=True),
    "NUMERIC": _decimal,
    "BIGNUMERIC": _decimal,
}
