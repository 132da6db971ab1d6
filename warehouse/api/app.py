"""The part of BigQuery's REST API that `google-cloud-bigquery` needs to run jobs and to keep tables."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from usage_service.shared.version import running_version
from warehouse.api import tables
from warehouse.api.answers import ENGINE, JOBS, UPLOADS, answer_json
from warehouse.api.jobs import Job, JobStore, Limits
from warehouse.api.listing import job_token, read_listing
from warehouse.api.requests import QueryRequest, from_insert, from_query, number_argument, read_json
from warehouse.api.uploads import Upload, Uploads, receive_chunk, receive_multipart
from warehouse.api.wire import (
    Row,
    dry_run_resource,
    encode_rows,
    job_resource,
    listed_job,
    page_token,
    read_page_token,
    schema_resource,
)
from warehouse.api.work import load_job, query_job
from warehouse.definitions import invalid
from warehouse.engine import Engine
from warehouse.errors import BigQueryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)

PREFIX = "/bigquery/v2/projects/{project}"
MAX_BODY = 4 * 1024 * 1024
MAX_PAGE_ROWS = 20_000
DEFAULT_TIMEOUT_MS = 10_000
MAX_TIMEOUT_MS = 60_000


def create_app(
    database_path: Path,
    *,
    limits: Limits | None = None,
    memory_limit: str = "2GB",
    threads: int = 2,
    middlewares: Sequence[Middleware] = (),
) -> web.Application:
    """Return the server's application over a seeded file; raise WarehouseFileError when there is none.

    `middlewares` see each request before it is answered, and may fail it as BigQuery might.
    """
    app = web.Application(middlewares=[*middlewares, answer_errors], client_max_size=MAX_BODY)
    app[ENGINE] = Engine(database_path, memory_limit=memory_limit, threads=threads)
    app[JOBS] = JobStore(app[ENGINE], limits or Limits())
    app[UPLOADS] = Uploads()
    app.router.add_post(f"{PREFIX}/jobs", insert_job)
    app.router.add_post(f"/upload{PREFIX}/jobs", upload_file)
    app.router.add_put(f"/upload{PREFIX}/jobs", upload_chunk)
    app.router.add_delete(f"/upload{PREFIX}/jobs", abandon_upload)
    app.router.add_get(f"{PREFIX}/jobs", list_jobs)
    app.router.add_get(f"{PREFIX}/jobs/{{job_id}}", get_job)
    app.router.add_post(f"{PREFIX}/jobs/{{job_id}}/cancel", cancel_job)
    app.router.add_post(f"{PREFIX}/queries", run_query)
    app.router.add_get(f"{PREFIX}/queries/{{job_id}}", get_results)
    app.router.add_get("/__version__", get_version)
    app.router.add_routes(tables.ROUTES)
    app.cleanup_ctx.append(_stop)
    return app


async def get_version(_request: web.Request) -> web.Response:
    """Answer the version of the running code, as Mozilla's Dockerflow has it."""
    return answer_json(running_version(), 200)


async def _stop(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[JOBS].close()
    app[UPLOADS].close()
    app[ENGINE].close()


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as BigQuery's JSON, never with a traceback."""
    try:
        return await handler(request)
    except BigQueryError as error:
        return answer_json(error.body(), error.status)
    except web.HTTPRequestEntityTooLarge:
        too_large = BigQueryError("invalid", f"Request payload size exceeds the limit: {MAX_BODY} bytes")
        return answer_json(too_large.body(), 413)
    except web.HTTPException as refusal:
        unknown = BigQueryError("notFound", f"{refusal.reason}: {request.method} {request.path}")
        return answer_json(unknown.body(), refusal.status)
    except Exception:
        log.exception("request_crashed", path=request.path)
        return answer_json(BigQueryError("internalError", "An internal error occurred").body(), 500)


async def insert_job(request: web.Request) -> web.Response:
    """Answer POST jobs: start a query, or estimate it when it is a dry run."""
    query = from_insert(await read_json(request))
    job = await _planned(request.app, request.match_info["project"], query)
    if query.dry_run:
        return answer_json(dry_run_resource(job))
    request.app[JOBS].start(job)
    return answer_json(job_resource(job))


async def _planned(app: web.Application, project: str, query: QueryRequest) -> Job:
    if not query.dry_run:
        app[JOBS].check_new(project, query.job_id)
    return await asyncio.to_thread(query_job, app[ENGINE], project, query)


async def upload_file(request: web.Request) -> web.Response:
    """Answer POST of an upload: start the load job of a file, or begin a resumable upload and tell its address."""
    project = request.match_info["project"]
    if request.query.get("uploadType") == "resumable":
        metadata = await read_json(request)
        key = request.app[UPLOADS].begin(project, metadata)
        address = request.url.update_query(upload_id=key)
        return web.Response(headers={"Location": str(address)})
    if request.query.get("uploadType") != "multipart":
        raise invalid("uploadType is multipart or resumable", "uploadType")
    return answer_json(job_resource(_started(request.app, await receive_multipart(request, project))))


def _started(app: web.Application, upload: Upload) -> Job:
    upload.file.seek(0)
    job = load_job(upload.project, upload.request, upload.file, upload.size)
    try:
        app[JOBS].start(job)
    except BigQueryError:
        upload.file.close()
        raise
    return job


async def upload_chunk(request: web.Request) -> web.Response:
    """Answer PUT of a resumable upload: keep the bytes, and start the load job after the last of them."""
    upload = request.app[UPLOADS].get(request.query.get("upload_id", ""))
    async with upload.lock:
        if upload.complete:
            return answer_json(job_resource(request.app[JOBS].get(upload.project, upload.request.job_id)))
        if not await receive_chunk(request, upload):
            arrived = {"Range": f"bytes=0-{upload.size - 1}"} if upload.size else {}
            return web.Response(status=308, headers=arrived)
        upload.complete = True
        return answer_json(job_resource(_started(request.app, upload)))


async def abandon_upload(request: web.Request) -> web.Response:
    """Answer DELETE of a resumable upload: forget it."""
    key = request.query.get("upload_id", "")
    request.app[UPLOADS].get(key)
    request.app[UPLOADS].abandon(key)
    return web.Response(status=499)


async def list_jobs(request: web.Request) -> web.Response:
    """Answer GET jobs: a page of the project's jobs that have not expired, the newest first."""
    listing = read_listing(request.query)
    jobs = request.app[JOBS].newest_first(request.match_info["project"], listing)
    page, last = jobs[: listing.limit], jobs[listing.limit - 1 : listing.limit]
    more = {"nextPageToken": job_token(last[0].created, last[0].job_id)} if last and len(jobs) > len(page) else {}
    return answer_json({"kind": "bigquery#jobList", "jobs": [listed_job(job) for job in page]} | more)


def _job(request: web.Request) -> Job:
    return request.app[JOBS].get(request.match_info["project"], request.match_info["job_id"])


async def get_job(request: web.Request) -> web.Response:
    """Answer GET jobs/{id}: the job as it is now."""
    return answer_json(job_resource(_job(request)))


async def cancel_job(request: web.Request) -> web.Response:
    """Answer POST jobs/{id}/cancel: ask the job to stop; it is DONE a moment later."""
    job = _job(request)
    request.app[JOBS].cancel(job)
    return answer_json({"kind": "bigquery#jobCancelResponse", "job": job_resource(job)})


async def run_query(request: web.Request) -> web.Response:
    """Answer POST queries: start a query and return its first page if it is done in time."""
    body = await read_json(request)
    query = from_query(body)
    job = await _planned(request.app, request.match_info["project"], query)
    if query.dry_run:
        return answer_json(_head(job) | {"jobComplete": True, "totalRows": "0"})
    request.app[JOBS].start(job)
    return await _answer(request.app, job, {str(k): str(v) for k, v in body.items()}, _int64(body))


def _int64(body: dict[str, Any]) -> bool:
    options = body.get("formatOptions")
    return isinstance(options, dict) and str(options.get("useInt64Timestamp")).lower() == "true"


async def get_results(request: web.Request) -> web.Response:
    """Answer GET queries/{id}: wait up to timeoutMs for the job, then return a page of its rows."""
    int64 = request.query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    return await _answer(request.app, _job(request), request.query, int64)


async def _answer(app: web.Application, job: Job, arguments: Mapping[str, str], int64_timestamps: bool) -> web.Response:
    timeout = min(number_argument(arguments, "timeoutMs", DEFAULT_TIMEOUT_MS), MAX_TIMEOUT_MS)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(job.done.wait(), timeout / 1000)
    if not job.done.is_set():
        return answer_json(_head(job) | {"jobComplete": False})
    if job.error:
        raise job.error
    if job.affected is not None:
        return answer_json(_head(job) | {"jobComplete": True, "numDmlAffectedRows": str(job.affected)})
    if not job.result:
        raise BigQueryError("notFound", f"Not found: the rows of job {job.project}:US.{job.job_id} have expired")
    first = number_argument(arguments, "startIndex", 0)
    first = read_page_token(arguments["pageToken"]) if arguments.get("pageToken") else first
    count = min(number_argument(arguments, "maxResults", MAX_PAGE_ROWS), MAX_PAGE_ROWS)
    rows = await asyncio.to_thread(_page, app[ENGINE], job, first, count, int64_timestamps)
    more = {"pageToken": page_token(first + count)} if first + count < job.rows else {}
    content = {"totalRows": str(job.rows), "jobComplete": True, "rows": rows}
    return answer_json(_head(job) | content | more)


def _head(job: Job) -> dict[str, object]:
    return {
        "kind": "bigquery#queryResponse",
        "jobReference": job.reference,
        "schema": schema_resource(job.columns),
        "totalBytesProcessed": job.statistics.get("totalBytesProcessed", "0"),
        "cacheHit": False,
    }


def _page(engine: Engine, job: Job, first: int, count: int, int64_timestamps: bool) -> list[Row]:
    with engine.cursor() as cursor:
        rows = cursor.table(job.result).limit(count, offset=first).fetchall() if count else []
    return encode_rows(job.columns, rows, int64_timestamps=int64_timestamps)
