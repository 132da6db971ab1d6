"""Rows on standard output: a table to look at, CSV or JSON to go on with."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum

from rich.console import Console
from rich.table import Table

Rows = Sequence[Sequence[object]]


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def print_rows(columns: Sequence[str], rows: Rows, form: Format | None) -> None:
    """Write the rows; None means a table on a terminal and CSV elsewhere."""
    chosen = form or (Format.TABLE if sys.stdout.isatty() else Format.CSV)
    {Format.TABLE: _table, Format.CSV: _csv, Format.JSON: _json}[chosen](columns, rows)


def _csv(columns: Sequence[str], rows: Rows) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows([_text(cell) if isinstance(cell, list | dict) else cell for cell in row] for row in rows)


def _json(columns: Sequence[str], rows: Rows) -> None:
    """An array of objects, one a line; dates and times as text."""
    lines = [_text(dict(zip(columns, row, strict=True))) for row in rows]
    print("[" + ",\n".join(lines) + "]")


def _table(columns: Sequence[str], rows: Rows) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*("NULL" if cell is None else cell if isinstance(cell, str) else _text(cell) for cell in row))
    Console(markup=False).print(table)


def _text(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
