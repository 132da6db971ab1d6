"""One query from the command line, against the file or against a running server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import duckdb
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from warehouse.engine import Engine, as_bigquery
from warehouse.errors import BigQueryError
from warehouse.sample.pings import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

Answer = tuple[list[str], list[tuple[object, ...]]]
ANONYMOUS: Callable[[], Credentials] = AnonymousCredentials
TIMEOUT_SECONDS = 600.0
RETRY = DEFAULT_RETRY.with_timeout(5.0)


def run_locally(path: Path, sql: str) -> Answer:
    """Column names and rows; BigQueryError for a bad query, FileNotFoundError without a file."""
    engine = Engine(path)
    try:
        plan = engine.plan(sql, PROJECT, {})
        with engine.cursor() as cursor:
            rows = cursor.execute(plan.translation.sql).fetchall()
        return [name for name, _ in plan.translation.columns], rows
    except duckdb.Error as error:
        raise as_bigquery(error) from error
    finally:
        engine.close()


def over_http(url: str, sql: str) -> Answer:
    """Column names and rows from a running server; BigQueryError for a bad query."""
    client = bigquery.Client(
        project=PROJECT, location="US", credentials=ANONYMOUS(), client_options={"api_endpoint": url}
    )
    try:
        with contextlib.closing(client):
            result = client.query_and_wait(sql, api_timeout=TIMEOUT_SECONDS, wait_timeout=TIMEOUT_SECONDS, retry=RETRY)
            return [field.name for field in result.schema], [tuple(row.values()) for row in result]
    except GoogleAPICallError as error:
        raise BigQueryError("invalidQuery", str(error.message)) from error
    except (OSError, RetryError) as error:
        raise BigQueryError("backendError", f"The warehouse at {url} does not answer") from error
