"""Builds that tests ask for over HTTP and move on by the functions of the schema, as a builder would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from msgspec.structs import replace

from tests.support.servers import (
    Client,
    Connection,
    JsonObject,
    ProductionServer,
    drained_projections,
    post,
    registered,
)
from usage_service.service import Service
from usage_service.shared.postgres import connect
from usage_service.shared.settings import ServerSettings
from usage_service.web.keys import SERVICE
from usage_service.web.server import create_app

LEASE = timedelta(seconds=60)
COLUMNS = (
    "product", "channel", "probe", "built_by", "version", "ping_type", "os", "build_id", "metric_type", "metric_key",
    "client_agg_type", "total_users", "total_sample", "histogram", "percentiles", "non_norm_histogram",
    "non_norm_percentiles",
)  # fmt: skip
PENDING = ["queued", "running", "progressed", "waiting_again"]
OVER = ["succeeded", "no_data", "failed", "cancelled"]


PROBES = ("gc_ms", "slow_ms", "gc_slice", *(f"probe_{number}" for number in range(50)))


class TwoServers(NamedTuple):
    """Two servers on one database, whose catalogue has PROBES, one that cannot be built and one that is left out."""

    url: str
    database: Connection
    client: Client
    other: Client


@asynccontextmanager
async def open_two_servers(url: str) -> AsyncIterator[TwoServers]:
    """Start the two servers for all tests of a module."""
    database = await connect(url, application="tests")
    try:
        async with served(url) as client, served(url) as other:
            known = [registered(probe) for probe in PROBES]
            await post(client, *known, registered("a_flag", "event"), registered("use_counter_x"))
            await drained_projections(database)
            yield TwoServers(url, database, client, other)
    finally:
        await database.close()


async def without_builds(two_servers: TwoServers) -> TwoServers:
    """Return the two servers as if nobody had ever asked for a build."""
    await two_servers.database.execute(
        "DELETE FROM probe_rows; DELETE FROM build_keys; DELETE FROM night_probes; DELETE FROM builds;"
        "DELETE FROM shared_jobs; DELETE FROM nights"
    )
    for client in (two_servers.client, two_servers.other):
        service(client).fresh.forget()
    return two_servers


@asynccontextmanager
async def served(url: str, **values: object) -> AsyncIterator[Client]:
    """Start a server, none of whose background tasks may die; `values` are of its settings."""
    deaths: list[bool] = []
    settings = replace(ServerSettings(database_url=url, visitor_secret="a secret for tests only"), **values)
    async with TestClient(ProductionServer(create_app(settings, lambda: deaths.append(True)))) as client:
        yield client
    assert not deaths


def service(client: Client) -> Service:
    """Return the service that a client talks to."""
    assert client.app is not None
    return client.app[SERVICE]


def wanted(probe: str = "gc_ms") -> JsonObject:
    """Return the body of a request for a build."""
    return {"product": "fog", "channel": "nightly", "probe": probe}


async def ask(client: Client, probe: str = "gc_ms", **headers: str) -> ClientResponse:
    """Send POST /v1/builds; an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/builds", json=wanted(probe), headers=named, allow_redirects=False)


async def look(client: Client, build_id: UUID, **headers: str) -> ClientResponse:
    """Send GET /v1/builds/{id}."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(f"/v1/builds/{build_id}", headers=named, allow_redirects=False)


async def asked(client: Client, probe: str = "gc_ms") -> UUID:
    """Ask for a build and return the id of the one that was created or joined."""
    response = await ask(client, probe)
    assert response.status == 202
    return UUID((await response.json())["build_id"])


async def claim(database: Connection, build_id: UUID) -> int:
    """Claim this build and no other; return the attempt."""
    row = await database.fetchrow("SELECT * FROM claim_build('a worker', $1)", LEASE)
    assert row is not None
    assert row["build_id"] == build_id
    return int(row["attempt"])


async def progress(database: Connection, build_id: UUID, attempt: int, percent: int = 50) -> None:
    """Report a stage and its percent."""
    await database.execute(
        "SELECT heartbeat_build($1, $2, $3, 'querying', $4, 1000)", build_id, attempt, LEASE, percent
    )


async def complete(database: Connection, build_id: UUID, attempt: int, rows: int = 1) -> None:
    """Store rows and end the build, in one transaction."""
    async with database.transaction():
        build = await database.fetchrow("SELECT product, channel, probe FROM builds WHERE build_id = $1", build_id)
        assert build is not None
        records = [
            (*build, build_id, version, "*", "*", "*", "timing_distribution", "", "summed_histogram", 9, 9, *["{}"] * 4)
            for version in range(140, 140 + rows)
        ]
        await database.copy_records_to_table("probe_rows", records=records, columns=COLUMNS)
        await database.execute("SELECT complete_build($1, $2, 1000)", build_id, attempt)


async def fail(database: Connection, build_id: UUID, attempt: int, retry_in: timedelta | None = None) -> None:
    """Fail the attempt, for good unless there is a time to retry."""
    await database.execute("SELECT fail_build($1, $2, 'busy', 'no slots', $3)", build_id, attempt, retry_in)


async def cancel(database: Connection, build_id: UUID) -> None:
    """Cancel the build."""
    await database.execute("SELECT cancel_build($1)", build_id)


async def bring_to(database: Connection, build_id: UUID, stage: str, attempt: int | None = None) -> None:
    """Move a build on to one of PENDING or OVER: a queued one, or one that is at this attempt."""
    if stage == "cancelled":
        await cancel(database, build_id)
    if stage in ("queued", "cancelled"):
        return
    attempt = attempt or await claim(database, build_id)
    if stage == "progressed":
        await progress(database, build_id, attempt)
    elif stage in ("waiting_again", "failed"):
        await fail(database, build_id, attempt, timedelta(seconds=20) if stage == "waiting_again" else None)
    elif stage in ("succeeded", "no_data"):
        await complete(database, build_id, attempt, rows=int(stage == "succeeded"))


async def history(database: Connection, build_id: UUID) -> list[tuple[int, str]]:
    """Return position and type of all events of a build."""
    rows = await database.fetch(
        "SELECT position, type FROM event_log WHERE data ->> 'build_id' = $1 ORDER BY position", str(build_id)
    )
    return [(row["position"], row["type"]) for row in rows]


async def problem(response: ClientResponse, status: int) -> JsonObject:
    """Return the body of a problem that was answered with this status."""
    body: JsonObject = await response.json()
    assert (response.status, response.content_type) == (status, "application/problem+json"), body
    return body
