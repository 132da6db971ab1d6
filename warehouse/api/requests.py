"""Requests of clients, read and checked: numbers, JSON bodies and query configurations."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse.errors import BigQueryError
from warehouse.parameters import Parameter, read_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
UNSUPPORTED = (
    "destinationTable",
    "tableDefinitions",
    "userDefinedFunctions",
    "timePartitioning",
    "connectionProperties",
)


@dataclass(frozen=True)
class QueryRequest:
    """A query as both jobs.insert and jobs.query ask for it."""

    job_id: str
    text: str
    parameters: dict[str, Parameter]
    dry_run: bool
    byte_limit: int | None
    labels: dict[str, str]
    configuration: dict[str, Any]


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the body; raise parseError when it is not a JSON object."""
    try:
        body = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        raise BigQueryError("parseError", "Parse Error: the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BigQueryError("parseError", "Parse Error: the request body must be a JSON object")
    return body


def from_insert(body: dict[str, Any]) -> QueryRequest:
    """Return the query of a jobs.insert request."""
    configuration = _object(body, "configuration")
    query = _object(configuration, "query")
    job_id = str(_object(body, "jobReference").get("jobId") or uuid.uuid4())
    return _request(job_id, query, configuration, query)


def from_query(body: dict[str, Any]) -> QueryRequest:
    """Return the query of a jobs.query request; its requestId, when given, makes the job id."""
    kept = ("query", "queryParameters", "parameterMode", "useLegacySql", "maximumBytesBilled", "defaultDataset")
    query = {key: body[key] for key in kept if key in body}
    return _request(f"job_{body.get('requestId') or uuid.uuid4()}", query, body, body)


def _request(job_id: str, query: dict[str, Any], outer: dict[str, Any], source: dict[str, Any]) -> QueryRequest:
    if not JOB_ID.fullmatch(job_id):
        raise BigQueryError("invalid", f'Invalid job ID "{job_id}"', "jobReference.jobId")
    text = query.get("query")
    if not isinstance(text, str) or not text.strip():
        raise BigQueryError("invalid", "Required parameter is missing: query", "query")
    if query.get("useLegacySql") not in (None, False):
        raise BigQueryError("invalid", "The embedded warehouse runs GoogleSQL only; set useLegacySql to false")
    if used := [key for key in UNSUPPORTED if source.get(key)]:
        raise BigQueryError("invalid", f"The embedded warehouse does not support {used[0]}", used[0])
    limit = query.get("maximumBytesBilled")
    return QueryRequest(
        job_id=job_id,
        text=text,
        parameters=read_parameters(query),
        dry_run=outer.get("dryRun") is True,
        byte_limit=None if limit is None else whole_number(limit, "maximumBytesBilled"),
        labels={str(key): str(value) for key, value in _object(outer, "labels").items()},
        configuration=query,
    )


def _object(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key) or {}
    if not isinstance(value, dict):
        raise BigQueryError("invalid", f"Invalid value for {key}: an object is expected", key)
    return value


def whole_number(value: object, name: str) -> int:
    """Return a number that is not negative, sent as text or as a number; raise `invalid` for anything else."""
    if not re.fullmatch(r"[0-9]{1,18}", str(value)):
        raise BigQueryError("invalid", f"Invalid value for {name}: {value}", name)
    return int(str(value))


def number_argument(arguments: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of the query string, or the default when it is not there."""
    return whole_number(arguments[name], name) if name in arguments else default
