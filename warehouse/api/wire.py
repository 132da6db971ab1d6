"""The JSON of rows, jobs and results in BigQuery's REST API."""

from __future__ import annotations

import base64
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from warehouse.errors import BigQueryError, invalid_query
from warehouse.schema import Type, field_resource

if TYPE_CHECKING:
    from collections.abc import Callable

    from warehouse.api.jobs import Job

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


SCALARS: dict[str, Callable[[Any], str]] = {
    "INT64": str,
    "FLOAT64": _float,
    "STRING": str,
    "BOOL": lambda value: "true" if value else "false",
    "DATE": str,
    "DATETIME": lambda value: str(value.isoformat()),
    "TIMESTAMP": _seconds,
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


def job_resource(job: Job) -> dict[str, object]:
    """Return the job as a Job resource."""
    return {
        "kind": "bigquery#job",
        "id": f"{job.project}:US.{job.job_id}",
        "selfLink": f"/bigquery/v2/projects/{job.project}/jobs/{job.job_id}?location=US",
        "jobReference": job.reference,
        "configuration": {"jobType": "QUERY", "query": job.query, "labels": job.labels},
        "status": status_resource(job),
        "statistics": statistics_resource(job),
        "user_email": "anonymous@localhost",
    }


def status_resource(job: Job) -> dict[str, object]:
    """Return the job's state and, when it failed, its error."""
    errors: dict[str, object] = {"errorResult": job.error.item(), "errors": [job.error.item()]} if job.error else {}
    return {"state": job.state} | errors


def statistics_resource(job: Job) -> dict[str, object]:
    """Return the job's times in milliseconds and the bytes that BigQuery would process and bill."""
    times = {"creationTime": job.created, "startTime": job.started, "endTime": job.ended}
    processed, billed = str(job.plan.bytes_processed), str(job.plan.bytes_billed)
    return {
        **{key: str(int(value * 1000)) for key, value in times.items() if value is not None},
        "totalBytesProcessed": processed,
        "query": {
            "statementType": "SELECT",
            "cacheHit": False,
            "totalBytesProcessed": processed,
            "totalBytesBilled": billed if job.error is None else "0",
            "schema": schema_resource(job.plan.translation.columns),
        },
    }


def dry_run_resource(project: str, query: dict[str, object], labels: dict[str, str], job: Job) -> dict[str, object]:
    """Return the answer to a dry run: a finished job that has no id."""
    statistics = statistics_resource(job)
    return {
        "kind": "bigquery#job",
        "jobReference": {"projectId": project, "location": "US"},
        "configuration": {"jobType": "QUERY", "dryRun": True, "query": query, "labels": labels},
        "status": {"state": "DONE"},
        "statistics": statistics,
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
