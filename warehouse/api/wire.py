"""The JSON of rows, jobs and results in BigQuery's REST API."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from warehouse.errors import BigQueryError, invalid_query
from warehouse.schema import Type, field_resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from warehouse.api.jobs import Job
    from warehouse.catalogue import Table
    from warehouse.definitions import Resource


class Cell(msgspec.Struct, gc=False):
    """A value in JSON: text, a list of cells, or a row."""

    v: object


class Row(msgspec.Struct, gc=False):
    """A row, or a STRUCT."""

    f: Sequence[Cell]


REPEATING = {"INT64", "STRING", "BOOL", "DATE"}  # types whose values often occur more than once in a column
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


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


Scalars: TypeAlias = "Mapping[str, Callable[[Any], str]]"
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


def encode_rows(columns: list[tuple[str, Type]], rows: list[tuple[Any, ...]], *, int64_timestamps: bool) -> list[Row]:
    """Return rows as [{"f": [{"v": ...}, ...]}, ...], made of DuckDB's values column by column."""
    scalars = SCALARS | ({"TIMESTAMP": _micros} if int64_timestamps else {})
    return [Row(cells) for cells in _side_by_side([kind for _, kind in columns], rows, scalars)]


def _side_by_side(kinds: list[Type], rows: Iterable[Sequence[Any]], scalars: Scalars) -> Iterator[tuple[Cell, ...]]:
    columns = zip(*rows, strict=True)
    return zip(*(_cells(kind, column, scalars) for kind, column in zip(kinds, columns, strict=False)), strict=True)


def _cells(kind: Type, values: Sequence[Any], scalars: Scalars) -> list[Cell]:
    """Return the cell of each value of a type: text, {"f": ...} or a list of cells."""
    if kind.repeated:
        items = [item for value in values for item in value or ()]
        cells = iter(_cells(Type(kind.name, fields=kind.fields), items, scalars))
        return [Cell([_element(next(cells)) for _ in value or ()]) for value in values]
    if kind.name == "STRUCT":
        fields = [tuple(value.values()) if value else (None,) * len(kind.fields) for value in values]
        structs = _side_by_side(list(kind.fields.values()), fields, scalars)
        return [Cell(None if value is None else Row(cells)) for value, cells in zip(values, structs, strict=True)]
    encode = scalars[kind.name]
    if kind.name in REPEATING:
        return list(map(_Cells(encode).__getitem__, values))
    return [Cell(None if value is None else encode(value)) for value in values]


def _element(cell: Cell) -> Cell:
    if cell.v is None:
        raise invalid_query("Array cannot have a null element; error in writing field")
    return cell


class _Cells(dict[Any, Cell]):
    """The cells of the values of a column, each encoded once."""

    def __init__(self, encode: Callable[[Any], str]) -> None:
        super().__init__({None: Cell(None)})
        self._encode = encode

    def __missing__(self, value: object) -> Cell:
        cell = self[value] = Cell(self._encode(value))
        return cell


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
    kept = {key: definition[key] for key in ("timePartitioning", "clustering", "labels", "view") if key in definition}
    return kept | {
        "kind": "bigquery#table",
        "type": "VIEW" if table.definition.view else "TABLE",
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
