"""One query of the command line, to the file or to a running server, and its rows on standard output."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import duckdb

from usage_service.shared.table_layout import Column
from usage_service.shared.tables import Format, chosen_format, show_table, visible
from warehouse.engine import Engine, as_bigquery
from warehouse.errors import BigQueryError, invalid_query
from warehouse.sample.pings import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from google.auth.credentials import Credentials

Rows = Sequence[Sequence[object]]
Answer = tuple[list[str], list[tuple[object, ...]]]
TIMEOUT_SECONDS = 600.0
RETRY_SECONDS = 5.0


def run_locally(path: Path, sql: str) -> Answer:
    """Return column names and rows; raise BigQueryError for a bad query, WarehouseFileError without a file."""
    engine = Engine(path, read_only=True)
    try:
        plan = engine.plan(sql, PROJECT, {})
        if plan.translation.changes:
            raise invalid_query(f"{plan.translation.kind} changes a table: ask a running warehouse with --url")
        with engine.cursor() as cursor:
            rows = cursor.execute(plan.translation.sql).fetchall()
        return [name for name, _ in plan.translation.columns], rows
    except duckdb.Error as error:
        raise as_bigquery(error) from error
    finally:
        engine.close()


def over_http(url: str, sql: str) -> Answer:
    """Return column names and rows from a running server; raise BigQueryError for a bad query or no answer."""
    # Only here: this takes longer to load than all else of the warehouse, which neither needs it to serve nor to seed.
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    anonymous: Callable[[], Credentials] = AnonymousCredentials
    client = bigquery.Client(
        project=PROJECT, location="US", credentials=anonymous(), client_options={"api_endpoint": url}
    )
    retry = DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
    try:
        with contextlib.closing(client):
            result = client.query_and_wait(sql, api_timeout=TIMEOUT_SECONDS, wait_timeout=TIMEOUT_SECONDS, retry=retry)
            return [field.name for field in result.schema], [tuple(row.values()) for row in result]
    except GoogleAPICallError as error:
        raise BigQueryError("invalidQuery", str(error.message)) from error
    except (OSError, RetryError) as error:
        raise BigQueryError("backendError", f"The warehouse at {url} does not answer") from error


def print_rows(columns: Sequence[str], rows: Rows, form: Format | None) -> None:
    """Print the rows; without a format, as a table on a terminal and as CSV elsewhere."""
    {"table": _table, "csv": _csv, "json": _json}[chosen_format(form)](columns, rows)


def _csv(columns: Sequence[str], rows: Rows) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows([_text(cell) if isinstance(cell, list | dict) else cell for cell in row] for row in rows)


def _json(columns: Sequence[str], rows: Rows) -> None:
    """Print an array of objects, one a line; dates and times are text."""
    lines = [_text(dict(zip(columns, row, strict=True))) for row in rows]
    print("[" + ",\n".join(lines) + "]")


def _table(columns: Sequence[str], rows: Rows) -> None:
    cells = [[_cell(value) for value in row] for row in rows]
    numbers = [any(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]
    by_column = [[row[index] for row in cells] for index in range(len(columns))]
    show_table([Column(*one) for one in zip(columns, by_column, numbers, strict=True)])


def _cell(value: object) -> str:
    return "NULL" if value is None else visible(value if isinstance(value, str) else _text(value).strip('"'))


def _text(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
