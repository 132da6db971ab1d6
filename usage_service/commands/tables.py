"""Rows as people read them on a terminal, and as programs do from a pipe."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

Format = Literal["table", "csv", "json"]
FormatOption = Annotated[
    Format | None, typer.Option("--format", show_default="table on a terminal, csv in a pipe", help="how to print")
]
Row = Mapping[str, object]


def show(rows: Sequence[Row], columns: Sequence[str], form: Format | None = None) -> None:
    """Print the columns of the rows on stdout; as JSON, all that the rows have.

    Without a format they are a table on a terminal, else CSV with a line of names.
    """
    chosen = form or ("table" if sys.stdout.isatty() else "csv")
    if chosen == "table":
        _show_table(rows, columns)
    elif chosen == "csv":
        _show_csv(rows, columns)
    else:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")


def _show_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    table = Table(box=None)
    for name in columns:
        is_number = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_visible(_cell(row.get(name))) for name in columns))
    # What somebody called a page is printed, not obeyed.
    Console(markup=False, highlight=False, emoji=False).print(table)


def _show_csv(rows: Sequence[Row], columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(row.get(name)) for name in columns] for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _visible(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
