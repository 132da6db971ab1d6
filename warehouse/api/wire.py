"""The JSON of rows, jobs and results in BigQuery's REST API."""

from __future__ import annotations

import base64
import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from warehouse.errors import BigQueryError, invalid_query
from warehouse.schema import Type, field_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from warehouse.api.jobs import Job
    from warehouse.catalogue import Table
    from warehouse.definitions import Resource

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


def encoder(kind: Type, *, int64_timestamps: bool) -> Callable[[Any], object]:
    """Return a function from DuckDB's values of a type to BigQuery's JSON: text, {"f": ...} or a list of {"v": ...}."""
    if kind.repeated:
        element = encoder(Type(kind.name, fields=kind.fields), int64_timestamps=int64_timestamps)
        return lambda values: [{"v": _element(element(value))} for value in values or ()]
    if kind.name == "STRUCT":
        parts = [encoder(child, int64_timestamps=int64_timestamps) for child in kind.fields.values()]
        return lambda value: value if value is None else _struct(parts, value)
    scalar = _micros if kind.name == "TIMESTAMP" and int64_timestamps else SCALARS[kind.name]
    return lambda value: None if value is None else scalar(value)


def _struct(parts: list[Callable[[Any], object]], value: dict[str, Any]) -> dict[str, object]:
    return {"f": [{"v": part(child)} for part, child in zip(parts, value.values(), strict=True)]}


def _element(value: object) -> object:
    if value is None:
        raise invalid_query("Array cannot have a null element; error in writing field")
    return value


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise invalid_query("Floating point error in expression: the result is not a finite number")
    return repr(value)


def _micros(value: dt.datetime) -> str:
    return str((value - EPOCH) // MICROSECOND)


def _seconds(value: dt.datetime) -> str:
    return repr((value - EPOCH) / dt.timedelta(seconds=1))


def decimal_text(value: Decimal) -> str:
    """Return a decimal without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


SCALARS: dict[str, Callable[[Any], str]] = {
    "INT64": str,
    "FLOAT64": _float,
    "STRING": str,
    "BOOL": lambda value: "true" if value else "false",
    "DATE": str,
    "DATETIME": lambda value: str(value.isoformat()),
    "TIMESTAMP": _seconds,
    "NUMERIC": decimal_text,
    "BIGNUMERIC": decimal_text,
    "BYTES": lambda value: base64.b64encode(value).decode(),
}


def encode_rows(
    columns: list[tuple[str, Type]], rows: list[tuple[Any, ...]], *, int64_timestamps: bool
) -> list[dict[str, object]]:
    """Return rows as [{"f": [{"v": ...}, ...]}, ...]."""
    encoders = [encoder(kind, int64_timestamps=int64_timestamps) for _, kind in columns]
    return [{"f": [{"v": e(v)} for e, v in zip(encoders, row, strict=True)]} for row in rows]


def schema_resource(columns: list[tuple[str, Type]]) -> dict[str, object]:
    """Return the columns as a TableSchema."""
    return {"fields": [field_resource(name, kind) for name, kind in columns]}


def job_resource(job: Job) -> Resource:
    """Return the job as a Job resource."""
    return {
        "kind": "bigquery#job",
        "id": f"{job.project}:US.{job.job_id}",
        "selfLink": f"/bigquery/v2/projects/{job.project}/jobs/{job.job_id}?location=US",
        "jobReference": job.reference,
        "configuration": job.configuration,
        "status": status_resource(job),
        "statistics": statistics_resource(job),
        "user_email": "anonymous@localhost",
    }


def listed_job(job: Job) -> Resource:
    """Return the job as an entry of a list of jobs."""
    errors = {"errorResult": job.error.item()} if job.error else {}
    return job_resource(job) | {"state": job.state} | errors


def status_resource(job: Job) -> Resource:
    """Return the job's state and, when it failed, its error."""
    errors: Resource = {"errorResult": job.error.item(), "errors": job.error.items()} if job.error else {}
    return {"state": job.state} | errors


def statistics_resource(job: Job) -> Resource:
    """Return the job's times in milliseconds and what its kind counts, such as the bytes that BigQuery would bill."""
    times = {"creationTime": job.created, "startTime": job.started, "endTime": job.ended}
    counted = job.statistics
    if job.error and "query" in counted:
        counted = counted | {"query": counted["query"] | {"totalBytesBilled": "0"}}
    return {key: str(int(value * 1000)) for key, value in times.items() if value is not None} | counted


def dry_run_resource(job: Job) -> Resource:
    """Return the answer to a dry run: a finished job that has no id."""
    return {
        "kind": "bigquery#job",
        "jobReference": {"projectId": job.project, "location": "US"},
        "configuration": job.configuration | {"dryRun": True},
        "status": {"state": "DONE"},
        "statistics": statistics_resource(job),
    }


def table_resource(table: Table, rows: int, size: int) -> Resource:
    """Return a table as a Table resource."""
    changed = str(int(table.created * 1000))
    return (
        listed_table(table)
        | table.definition.resource()
        | {
            "etag": changed,
            "location": "US",
            "numRows": str(rows),
            "numBytes": str(size),
            "lastModifiedTime": changed,
        }
    )


def listed_table(table: Table) -> Resource:
    """Return a table as an entry of a list of tables."""
    project, dataset, name = table.name
    definition = table.definition.resource()
    kept = {key: definition[key] for key in ("timePartitioning", "clustering", "labels") if key in definition}
    return kept | {
        "kind": "bigquery#table",
        "type": "TABLE",
        "id": str(table.name),
        "selfLink": f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{name}",
        "tableReference": table.name.reference,
        "creationTime": str(int(table.created * 1000)),
    }


def dataset_resource(project: str, dataset: str, said: Resource) -> Resource:
    """Return a dataset as a Dataset resource."""
    return said | {
        "kind": "bigquery#dataset",
        "id": f"{project}:{dataset}",
        "selfLink": f"/bigquery/v2/projects/{project}/datasets/{dataset}",
        "datasetReference": {"projectId": project, "datasetId": dataset},
        "location": "US",
    }


def page_token(offset: int) -> str:
    """Return an opaque token for the page that begins at a row."""
    return base64.urlsafe_b64encode(f"row:{offset}".encode()).decode()


def read_page_token(token: str) -> int:
    """Return the row at which a token's page begins; raise `invalid` for a token that `page_token` did not make."""
    try:
        kind, offset = base64.urlsafe_b64decode(token.encode()).decode().split(":")
        if kind == "row" and offset.isdigit():
            return int(offset)
    except ValueError:
        pass
    raise BigQueryError("invalid", "Invalid value for pageToken", "pageToken")
