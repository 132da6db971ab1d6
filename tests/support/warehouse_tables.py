"""A warehouse of a test's own, whose tables can be written: clients of it, and files for it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud.bigquery import Client, LoadJob, LoadJobConfig, QueryJob, QueryJobConfig, SchemaField, Table

from tests.support.fake_service import soon
from tests.support.warehouse_support import NEVER, SECONDS, client_of, start
from warehouse.queries import render

DATASET = "glam_etl"
PARQUET, JSON = "PARQUET", "NEWLINE_DELIMITED_JSON"
Rows = list[tuple[object, ...]]


def empty_database(directory: Path) -> Path:
    """Return the file of a warehouse without a sample."""
    path = directory / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(render("store"))
    return path


@contextmanager
def writable(directory: Path) -> Iterator[Client]:
    """Serve a warehouse that has nothing but an empty dataset, and yield a client of it."""
    with client_of(empty_database(directory)) as client:
        client.create_dataset(DATASET, retry=NEVER, timeout=SECONDS)
        yield client


def parquet(columns: Mapping[str, Any]) -> BytesIO:
    """Return a Parquet file with these columns."""
    return parquet_of(pa.table(dict(columns)))


def parquet_of(table: pa.Table) -> BytesIO:
    """Return a Parquet file with the rows of a table of Arrow."""
    file = BytesIO()
    pq.write_table(table, file)
    file.seek(0)
    return file


def ndjson(rows: Sequence[object]) -> BytesIO:
    """Return a file with a row of JSON a line."""
    return BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def load(client: Client, table: str, file: BytesIO, job_id: str | None = None, **config: object) -> LoadJob:
    """Start a load job without retries; Parquet, unless the configuration says otherwise."""
    settings = LoadJobConfig(**({"source_format": PARQUET} | config))
    return client.load_table_from_file(
        file, f"{DATASET}.{table}", job_id=job_id, job_config=settings, size=file.getbuffer().nbytes, timeout=SECONDS
    )


def loaded(client: Client, table: str, file: BytesIO, job_id: str | None = None, **config: object) -> LoadJob:
    """Return a load job that has succeeded."""
    return succeeded(load(client, table, file, job_id, **config))


def succeeded(job: LoadJob) -> LoadJob:
    """Wait for a load job, more eagerly than the client does, and raise its error."""
    soon(lambda: bool(job.done(retry=NEVER, timeout=SECONDS)), f"the job {job.job_id} is over", SECONDS)
    job.result(retry=NEVER, timeout=SECONDS)
    return job


def run(client: Client, sql: str, job_id: str | None = None, **config: object) -> QueryJob:
    """Return a query job that has succeeded."""
    job = start(client, sql, job_id, QueryJobConfig(**config))
    job.result(retry=NEVER, timeout=SECONDS, job_retry=None)
    return job


def content(client: Client, table: str) -> Rows:
    """Return the rows of a table, sorted."""
    found = client.list_rows(f"{DATASET}.{table}", retry=NEVER, timeout=SECONDS)
    return sorted((tuple(row.values()) for row in found), key=repr)


def make_table(client: Client, name: str, *fields: SchemaField, **properties: object) -> Table:
    """Make an empty table."""
    table = Table(f"{client.project}.{DATASET}.{name}", schema=fields)
    for key, value in properties.items():
        setattr(table, key, value)
    return client.create_table(table, retry=NEVER, timeout=SECONDS)
