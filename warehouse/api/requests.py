"""Requests of clients, read and checked: numbers, JSON bodies and query configurations."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse.definitions import Resource, TableName, as_object, invalid
from warehouse.errors import BigQueryError
from warehouse.parameters import Parameter, read_parameters
from warehouse.writing import Destination, Disposition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
UNSUPPORTED = (
    "tableDefinitions",
    "userDefinedFunctions",
    "connectionProperties",
    "schemaUpdateOptions",
    "rangePartitioning",
    "destinationEncryptionConfiguration",
)
LOADS = {
    "destinationTable",
    "schema",
    "sourceFormat",
    "writeDisposition",
    "createDisposition",
    "autodetect",
    "ignoreUnknownValues",
    "parquetOptions",
    "timePartitioning",
    "clustering",
    "destinationTableProperties",
}
FORMATS = ("PARQUET", "NEWLINE_DELIMITED_JSON")
PROJECT = re.compile(r"[A-Za-z0-9.:_-]{1,200}")
DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
TABLE = re.compile(r"[\w -]{1,1024}")
CREATE = {"CREATE_IF_NEEDED": True, "CREATE_NEVER": False}


@dataclass(frozen=True)
class QueryRequest:
    """A query as both jobs.insert and jobs.query ask for it."""

    job_id: str
    text: str
    parameters: dict[str, Parameter]
    dry_run: bool
    byte_limit: int | None
    destination: Destination | None
    configuration: Resource


@dataclass(frozen=True)
class LoadRequest:
    """A load of an uploaded file: its format, how it is read, and the table that it is for."""

    job_id: str
    parquet: bool
    lists: bool
    ignore_unknown: bool
    destination: Destination
    configuration: Resource


async def read_json(request: web.Request) -> Resource:
    """Return the body; raise parseError when it is not a JSON object."""
    return parse_object(await request.read())


def parse_object(text: bytes) -> Resource:
    """Return a JSON object; raise parseError for anything else."""
    try:
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise BigQueryError("parseError", "Parse Error: the request body is not valid JSON") from None
    if not isinstance(found, dict):
        raise BigQueryError("parseError", "Parse Error: the request body must be a JSON object")
    return found


def from_insert(body: Resource) -> QueryRequest:
    """Return the query of a jobs.insert request."""
    configuration = as_object(body, "configuration")
    if kinds := [kind for kind in ("load", "copy", "extract") if kind in configuration]:
        raise invalid(f"The embedded warehouse has no {kinds[0]} jobs without the upload of a file")
    query = as_object(configuration, "query")
    return _request(_job_id(body), query, configuration, query)


def _job_id(body: Resource) -> str:
    return str(as_object(body, "jobReference").get("jobId") or uuid.uuid4())


def from_upload(body: Resource) -> LoadRequest:
    """Return the load job of the metadata of an upload."""
    configuration = as_object(body, "configuration")
    load = as_object(configuration, "load")
    if configuration.get("dryRun"):
        raise invalid("A load job cannot be a dry run", "dryRun")
    if others := [key for key, value in load.items() if key not in LOADS and value]:
        raise invalid(f"The embedded warehouse does not support {others[0]} of load jobs", others[0])
    form = str(load.get("sourceFormat") or "CSV")
    if form not in FORMATS:
        raise invalid(f"The embedded warehouse loads {' and '.join(FORMATS)} only, not {form}", "sourceFormat")
    options = as_object(load, "parquetOptions")
    if others := [key for key, value in options.items() if key != "enableListInference" and value]:
        raise invalid(f"The embedded warehouse does not support {others[0]} of parquetOptions", others[0])
    return LoadRequest(
        _checked_job_id(_job_id(body)),
        form == "PARQUET",
        options.get("enableListInference") is True,
        load.get("ignoreUnknownValues") is True,
        _destination(load, Disposition.APPEND),
        {"jobType": "LOAD", "load": load, "labels": _labels(configuration)},
    )


def table_name(reference: Resource) -> TableName:
    """Return the name in a TableReference; raise `invalid` for one that no table can have."""
    parts = [str(reference.get(key) or "") for key in ("projectId", "datasetId", "tableId")]
    for part, pattern, what in zip(parts, (PROJECT, DATASET, TABLE), ("project", "dataset", "table"), strict=True):
        if not pattern.fullmatch(part):
            raise invalid(f'Invalid {what} ID "{part}"', f"{what}Id")
    return TableName(*parts)


def _destination(job: Resource, default: Disposition) -> Destination:
    properties = as_object(job, "destinationTableProperties")
    layout = {key: job[key] for key in ("schema", "timePartitioning", "clustering") if job.get(key)}
    disposition = str(job.get("writeDisposition") or default)
    create = str(job.get("createDisposition") or "CREATE_IF_NEEDED")
    if disposition not in set(Disposition) or create not in CREATE:
        raise invalid(f"Invalid disposition: {disposition}, {create}", "writeDisposition")
    return Destination(
        table_name(as_object(job, "destinationTable")), Disposition(disposition), CREATE[create], properties | layout
    )


def from_query(body: Resource) -> QueryRequest:
    """Return the query of a jobs.query request; its requestId, when given, makes the job id."""
    kept = ("query", "queryParameters", "parameterMode", "useLegacySql", "maximumBytesBilled", "defaultDataset")
    query = {key: body[key] for key in kept if key in body}
    return _request(f"job_{body.get('requestId') or uuid.uuid4()}", query, body, body)


def _request(job_id: str, query: Resource, outer: Resource, source: Resource) -> QueryRequest:
    text = query.get("query")
    if not isinstance(text, str) or not text.strip():
        raise BigQueryError("invalid", "Required parameter is missing: query", "query")
    if query.get("useLegacySql") not in (None, False):
        raise BigQueryError("invalid", "The embedded warehouse runs GoogleSQL only; set useLegacySql to false")
    if used := [key for key in UNSUPPORTED if source.get(key)]:
        raise BigQueryError("invalid", f"The embedded warehouse does not support {used[0]}", used[0])
    limit = query.get("maximumBytesBilled")
    return QueryRequest(
        job_id=_checked_job_id(job_id),
        text=text,
        parameters=read_parameters(query),
        dry_run=outer.get("dryRun") is True,
        byte_limit=None if limit is None else whole_number(limit, "maximumBytesBilled"),
        destination=_destination(source, Disposition.EMPTY) if source.get("destinationTable") else None,
        configuration={"jobType": "QUERY", "query": query, "labels": _labels(outer)},
    )


def _checked_job_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise BigQueryError("invalid", f'Invalid job ID "{job_id}"', "jobReference.jobId")
    return job_id


def _labels(configuration: Resource) -> dict[str, str]:
    return {str(key): str(value) for key, value in as_object(configuration, "labels").items()}


def whole_number(value: object, name: str) -> int:
    """Return a number that is not negative, sent as text or as a number; raise `invalid` for anything else."""
    if not re.fullmatch(r"[0-9]{1,18}", str(value)):
        raise BigQueryError("invalid", f"Invalid value for {name}: {value}", name)
    return int(str(value))


def number_argument(arguments: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of the query string, or the default when it is not there."""
    return whole_number(arguments[name], name) if name in arguments else default
