"""One trace leads from the request through the build to the warehouse's jobs, and holds nothing that it should not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import msgspec
import pytest
import structlog
from google.cloud import bigquery
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from builder.aggregates.aggregating import AggregateOptions, aggregate_probe
from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.builds import Aggregate
from tests.conftest import Start
from tests.support.builders import PROBE, put_in_catalogue, running_builder, until_state
from tests.support.googlesql import COUNTER
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import Client, Connection, event, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.logs import configure_logs
from usage_service.shared.otel import OtelTracer
from usage_service.shared.settings import ServerSettings
from usage_service.shared.tracing import span, traced_by

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOKEN = "a token for tests only"
SENT = {"Authorization": f"Bearer {TOKEN}"}
EVERYBODY = AggregateOptions(SourceOptions(thresholds=Thresholds({}, Minimum(0, 0))))
OF_A_BUILD = {"dry run", "query", "fetch", "statistics", "store"}


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Collect the spans of a test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with traced_by(OtelTracer(provider.get_tracer("tests"))):
        yield exporter
    provider.shutdown()


@pytest.fixture
async def client(spans: InMemorySpanExporter, start: Start, settings: ServerSettings, database: Connection) -> Client:
    """Start a traced server with two probes in its catalogue."""
    await put_in_catalogue(database, PROBE, COUNTER)
    await database.execute("UPDATE catalogue SET metric_type = 'counter' WHERE probe = $1", COUNTER)
    return await start(msgspec.structs.replace(settings, token=TOKEN))


@pytest.fixture(scope="module")
def bigquery_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("traced") / "pings.duckdb", random_pings(1, 300)) as made:
        yield made


def aggregates(warehouse: bigquery.Client) -> Aggregate:
    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        asked = replace(build, run_date=RUN_DATE, latest_version=None)
        return aggregate_probe(warehouse, asked, EVERYBODY, progress, control)

    return aggregate


async def ask(client: Client, probe: str = PROBE, **headers: str) -> str:
    asked = {"product": "fog", "channel": "nightly", "probe": probe}
    response = await client.post("/v1/builds", json=asked, headers=SENT | headers, allow_redirects=False)
    assert response.status in (202, 303)  # it may be over already
    return str((await response.json())["build_id"])


async def named(spans: InMemorySpanExporter, name: str, number: int = 1) -> list[ReadableSpan]:
    """Return the spans of a name, once there are so many."""

    def found() -> list[ReadableSpan]:
        return [one for one in spans.get_finished_spans() if one.name == name]

    async def there() -> bool:
        return len(found()) == number

    await eventually(there, f"{number} spans of {name}")
    return found()


def about(one: ReadableSpan) -> dict[str, object]:
    return dict(one.attributes or {})


def is_child(one: ReadableSpan, of: ReadableSpan) -> bool:
    assert of.context is not None
    return one.parent is not None and one.parent.span_id == of.context.span_id


async def test_a_request_its_build_and_its_jobs_are_one_trace(
    spans: InMemorySpanExporter,
    client: Client,
    database: Connection,
    database_url: str,
    bigquery_client: bigquery.Client,
) -> None:
    build_id = await ask(client, COUNTER, traceparent=CALLER)
    async with running_builder(database_url, aggregates(bigquery_client)):
        await until_state(database, "succeeded")
        [build] = await named(spans, "build probe")
    [request], [asking] = await named(spans, "POST /v1/builds"), await named(spans, "request build")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
    assert is_child(asking, request)
    assert is_child(build, asking)
    assert about(build)["build.outcome"] == "succeeded"
    inside = [one for one in spans.get_finished_spans() if one.name in OF_A_BUILD]
    assert {one.name for one in inside} == OF_A_BUILD
    [store] = await named(spans, "store")
    assert all(is_child(one, store if one.name == "statistics" else build) for one in inside)
    assert {one.context.trace_id for one in (request, asking, build, *inside) if one.context} == {
        int(CALLER.split("-")[1], 16)
    }
    jobs = [job for job in await asyncio.to_thread(lambda: list(bigquery_client.list_jobs())) if job.labels]
    of_build = [job for job in jobs if UUID(build_id).hex in str(job.job_id)]
    assert of_build
    assert all(job.labels["trace_id"] == CALLER.split("-")[1] for job in of_build)
    assert {job.job_id for job in of_build} == {about(one)["job.id"] for one in inside if one.name == "query"}


async def test_who_asks_for_what_is_built_already_is_linked_to_it(spans: InMemorySpanExporter, client: Client) -> None:
    build_id = await ask(client)
    assert await ask(client) == build_id
    assert await ask(client, **{"Idempotency-Key": "a"}) == build_id
    first, second, third = await named(spans, "request build", 3)
    assert first.context is not None
    assert not first.links
    for one in (second, third):
        assert about(one)["build.outcome"] == "pending"
        assert [link.context.span_id for link in one.links] == [first.context.span_id]
        assert one.context is not None
        assert one.context.trace_id != first.context.trace_id


async def test_a_build_that_failed_is_a_failed_span(
    spans: InMemorySpanExporter, client: Client, database: Connection, database_url: str
) -> None:
    def aggregate(build: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
        raise PermanentWorkError("invalidQuery", "a secret of the database")

    await ask(client)
    async with running_builder(database_url, aggregate):
        await until_state(database, "failed")
        [build] = await named(spans, "build probe")
    assert not build.status.is_ok
    assert about(build)["error.type"] == "failed"
    assert not any("secret" in one.to_json() for one in spans.get_finished_spans())


async def test_spans_of_requests_hold_no_ids(spans: InMemorySpanExporter, client: Client) -> None:
    sent = event(visitor="somebody-in-particular")
    async with client.post("/v1/events", json=[sent], headers=SENT) as response:
        assert response.status == 201
    visitor, other = uuid4(), uuid4()
    for path in (f"/v1/sessions/{visitor}/2026-11-20T12:00:00Z", f"/v1/builds/{other}", f"/nowhere/{other}"):
        async with client.get(path, headers=SENT) as response:
            assert response.status >= 400
    for path in ("/__heartbeat__", "/__lbheartbeat__", "/metrics"):
        async with client.get(path, headers=SENT) as response:
            assert response.status in (200, 503)
    done = {one.name: one for one in spans.get_finished_spans()}
    assert set(done) == {
        "POST /v1/events",
        "GET /v1/sessions/{visitor}/{started_at}",
        "GET /v1/builds/{build_id}",
        "GET",
    }
    assert about(done["GET /v1/builds/{build_id}"]) == {
        "http.request.method": "GET", "url.scheme": "http", "http.route": "/v1/builds/{build_id}",
        "http.response.status_code": 404,
    }  # fmt: skip
    told = "".join(one.to_json() for one in done.values())
    assert not [
        said for said in (visitor, other, "somebody-in-particular", TOKEN, sent["event_id"]) if str(said) in told
    ]


def test_what_is_logged_has_the_ids(spans: InMemorySpanExporter, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "json")
    log = structlog.get_logger()
    log.info("before")
    with span("some work"):
        log.info("meanwhile")
        context = trace.get_current_span().get_span_context()
    before, meanwhile = map(json.loads, capfd.readouterr().err.splitlines())
    assert "trace_id" not in before
    assert meanwhile["trace_id"] == f"{context.trace_id:032x}"
    assert meanwhile["span_id"] == f"{context.span_id:016x}"
