"""Rows as people read them on a terminal, and as programs do from a pipe; and what is told beside them."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TextIO

import msgspec
import typer

from usage_service.shared.formulas import no_formula
from usage_service.shared.table_layout import Column, blocks, fitting, lines, wrapped

Format = Literal["table", "csv", "json"]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        show_default="table on a terminal, csv in a pipe",
        help="how to print: csv has a line of names, json is one document",
    ),
]
# Of commands that tell people more than a table can: they print rows where they are asked for.
RowsOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        show_default="lines for people",
        help="print rows instead: csv has a line of names, json is one document",
    ),
]
Row = Mapping[str, object]
INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.][0-9]+)?(?:Z|\+00:00)")
MIDNIGHT = "00:00:00"
LEFT_OUT = "no room for {}: they are in a wider terminal, or with --format csv or json"


def show(rows: Sequence[Row], columns: Sequence[str], form: Format | None = None) -> None:
    """Print the columns of the rows on stdout; as JSON, all that the rows have.

    Without a format they are a table on a terminal, else CSV with a line of names.
    """
    chosen = chosen_format(form)
    if chosen == "table":
        show_table([_column(name, rows) for name in columns])
    elif chosen == "csv":
        show_csv(columns, [[row.get(name) for name in columns] for row in rows])
    else:
        show_json(rows)


def chosen_format(form: Format | None) -> Format:
    """Return the format that is asked for, else a table on a terminal, and CSV elsewhere."""
    return form or ("table" if sys.stdout.isatty() else "csv")


def show_table(columns: Sequence[Column]) -> None:
    """Print columns within the width of the terminal; say on stderr which there is no room for.

    Where most of them would be left out, each row is printed as lines of names and values instead.
    """
    room = room_of(sys.stdout)
    kept = fitting(columns, room)
    if room is not None and 2 * len(kept) < len(columns):
        sys.stdout.writelines(f"{line}\n" for line in blocks(columns, room))
        return
    sys.stdout.writelines(f"{line}\n" for line in lines(kept, room))
    if len(kept) < len(columns):
        tell(LEFT_OUT.format(", ".join(one.name for one in columns[len(kept) :])), err=True)


def show_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print CSV with a line of names."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)


def show_json(document: object) -> None:
    """Print one document of JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")


def tell(text: str, *, err: bool = False, color: str | None = None) -> None:
    """Print a sentence: on a terminal broken between words, and in that colour; elsewhere in one line."""
    stream = sys.stderr if err else sys.stdout
    room = room_of(stream) if stream.isatty() else None
    said = visible(text)
    indent = " " * (len(said) - len(said.lstrip()))
    broken = said if room is None else "\n".join(indent + line for line in wrapped(said, max(1, room - len(indent))))
    typer.echo(typer.style(broken, fg=color) if color else broken, err=err)


def room_of(stream: TextIO) -> int | None:
    """Return how many columns there are: those of COLUMNS, else of the terminal; None where there is none."""
    if (told := os.environ.get("COLUMNS", "")).isdigit() and int(told):
        return int(told)
    return shutil.get_terminal_size().columns if stream.isatty() else None


def visible(text: str) -> str:
    """Return a text that a terminal prints and does not obey: what somebody called a page may be anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def cell(value: object) -> str:
    """Return a value as people read it: thousands apart, few decimals, times to the second and plain days."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.3g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = _plain(value)
    instant = INSTANT.fullmatch(text)
    return text if instant is None else instant[1] if instant[2] == MIDNIGHT else f"{instant[1]} {instant[2]}"


def _column(name: str, rows: Sequence[Row]) -> Column:
    values = [row.get(name) for row in rows]
    is_number = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return Column(name.replace("_", " "), [visible(cell(value)) for value in values], is_number)


def _csv_cell(value: object) -> str:
    return no_formula(value) if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode().strip('"')
