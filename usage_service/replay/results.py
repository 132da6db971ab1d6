"""Results of analyses, printed or written: tables as tables, dicts as JSON, other objects as text."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from usage_service.replay.analyses import ReplayError
from usage_service.shared.files import written_whole
from usage_service.shared.table_layout import Column
from usage_service.shared.tables import show_table, tell, visible

ShownFormat = Literal["table", "csv", "json", "ndjson"]
SUFFIXES = (".json", ".ndjson", ".csv", ".parquet")
KEPT = (bytes, datetime, date, time, timedelta, Decimal)  # Arrow has types for these
MOST_SHOWN = 1_000  # rows on a terminal


def check_out(path: Path) -> None:
    """Raise ReplayError when a result cannot be written to such a file: before the work, not after it."""
    if path.suffix not in SUFFIXES:
        raise ReplayError(f"--out {path}: the name must end in {', '.join(SUFFIXES)}; without --out it is printed")
    if not path.resolve().parent.is_dir():
        raise ReplayError(f"--out {path}: there is no folder {path.parent}")


def show(result: object, form: ShownFormat | None = None) -> None:
    """Print a result: a table in that format, by default as a table on a terminal and as NDJSON elsewhere; else text.

    What is neither a table nor a text is JSON.
    """
    table = table_of(result)
    is_terminal = sys.stdout.isatty()
    if table is None:
        text = result if isinstance(result, str) else _json(result, pretty=is_terminal).decode()
        sys.stdout.write(text + "\n")
        return
    chosen = form or ("table" if is_terminal else "ndjson")
    if chosen == "table":
        _show_table(table)
    elif chosen == "csv":
        csv.write_csv(_in_text(table), sys.stdout.buffer)
    elif chosen == "json":
        sys.stdout.write(_json(table.to_pylist(), pretty=True).decode() + "\n")
    else:
        sys.stdout.writelines(_json(row).decode() + "\n" for row in table.to_pylist())


def write(result: object, path: Path) -> None:
    """Write a result, a file whole or not at all, in the format of the name's suffix. Raise ReplayError."""
    table = table_of(result)
    if table is None and path.suffix != ".json":
        raise ReplayError(f"--out {path}: the result is no table; give a name that ends in .json")
    try:
        with written_whole(path) as file:
            _write(result, table, path.suffix, file)
    except (OSError, pa.ArrowException) as error:
        raise ReplayError(f"--out {path} cannot be written: {error}") from None


def _write(result: object, table: pa.Table | None, suffix: str, file: BinaryIO) -> None:
    if table is None:
        file.write(_json(result) + b"\n")
    elif suffix == ".parquet":
        pq.write_table(table, file, compression="zstd")
    elif suffix == ".csv":
        csv.write_csv(_in_text(table), file)
    elif suffix == ".json":
        file.write(_json(table.to_pylist()) + b"\n")
    else:
        file.writelines(_json(row) + b"\n" for row in table.to_pylist())


def table_of(result: object) -> pa.Table | None:
    """Return as a table what is one to Arrow (a Polars or DuckDB object, too) or is a list of dicts, else None."""
    if isinstance(result, pa.Table):
        return result
    if isinstance(result, list) and result and all(isinstance(row, dict) for row in result):
        return _table_of_rows(result)
    if isinstance(result, pa.RecordBatch) or hasattr(result, "__arrow_c_stream__"):
        return pa.table(result)
    return None


def _table_of_rows(rows: list[dict[str, object]]) -> pa.Table:
    """Make a table with a column for every key that a row has; ids as text."""
    plain = msgspec.to_builtins(rows, builtin_types=KEPT, str_keys=True, enc_hook=_plain)
    names = dict.fromkeys(name for row in plain for name in row)
    try:
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in plain])
    except pa.ArrowException as error:
        raise ReplayError(f"the result's rows are no table: {error}") from None


def _in_text(table: pa.Table) -> pa.Table:
    """Return the table with ids and lists as JSON text, because CSV has neither."""
    columns = {
        name: _texts(column)
        if isinstance(column.type, pa.BaseExtensionType) or pa.types.is_nested(column.type)
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)


def _texts(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())


def _show_table(table: pa.Table) -> None:
    rows = table.slice(0, MOST_SHOWN).to_pylist()
    columns = []
    for one in table.schema:
        is_number = pa.types.is_integer(one.type) or pa.types.is_floating(one.type)
        cells = ["" if row[one.name] is None else visible(_text(row[one.name])) for row in rows]
        columns.append(Column(one.name, cells, is_number))
    show_table(columns)
    if table.num_rows > MOST_SHOWN:
        tell(f"the first {MOST_SHOWN:,} of {table.num_rows:,} rows; --out writes all", err=True)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, dict | list):
        return _json(value).decode()
    return str(value)


def _json(value: object, *, pretty: bool = False) -> bytes:
    text = msgspec.json.encode(value, enc_hook=_plain)
    return msgspec.json.format(text) if pretty else text


def _plain(value: object) -> object:
    """Return the Python value of a scalar of NumPy or Arrow, and anything else as text."""
    if isinstance(value, pa.Scalar):
        return value.as_py()
    return value.item() if isinstance(value, np.generic) else str(value)
