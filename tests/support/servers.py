"""What several tests need: events to post, conditions to wait for."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from usage_service.shared.postgres import connect
from usage_service.web.connections import GuardedRunner

Client: TypeAlias = "TestClient[web.Request, web.Application]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
JsonObject = dict[str, Any]

SHARED = Path(__file__).parents[3] / "shared"
NOON = "2026-11-20T12:00:00Z"


def rounds(usual: int) -> int:
    """Return how often something is tried: as usual, or what SOAK_ROUNDS says where that is more."""
    return max(usual, int(os.environ.get("SOAK_ROUNDS") or 0))


class ProductionServer(TestServer):
    """Serves as in production: a caller who goes does not cancel what answers it, and one who dawdles is cut off."""

    async def _make_runner(self, **_options: object) -> GuardedRunner:
        return GuardedRunner(self.app)


def shared_file(name: str) -> Path:
    """Return a file of real data that the makers have and users have not."""
    return SHARED / "data" / name


def event(kind: str = "page_viewed", **fields: object) -> JsonObject:
    """Return an event as it is on the wire; fields replace the defaults, None removes one."""
    usual: dict[str, JsonObject] = {"page_viewed": {"page": "/"}, "probe_viewed": {"found": True}}
    made: JsonObject = {
        "event_id": str(uuid4()),
        "type": kind,
        "occurred_at": NOON,
        "visitor": "somebody",
        "product": "fog",
        "data": usual.get(kind, {}),
    }
    if kind == "probe_viewed":
        made["probe"] = "gc_ms"
    return {name: value for name, value in (made | fields).items() if value is not None}


def registered(
    probe: str, metric_type: str = "timing_distribution", ping: str = "metrics", **fields: object
) -> JsonObject:
    """Return the event that puts a probe into the catalogue."""
    data = {"type": metric_type, "ping": ping}
    return event("probe_registered", probe=probe, visitor=None, data=data, **fields)


async def post(client: Client, *events: JsonObject) -> list[JsonObject]:
    """Post events that all are to be taken; return the answer's items."""
    response = await client.post("/v1/events", json=list(events))
    body = await response.json()
    assert response.status == 201, body
    return list(body["events"])


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Open a connection as the owner of the database, closed at the end."""
    connection = await connect(url, application="tests")
    try:
        yield connection
    finally:
        await connection.close()


async def at_random_within(seconds: float, strike: Callable[[], None]) -> None:
    """Strike at a moment that has nothing to do with what goes on."""
    struck = asyncio.Event()

    def strike_now() -> None:
        strike()
        struck.set()

    asyncio.get_running_loop().call_later(random.uniform(0, seconds), strike_now)
    await asyncio.wait_for(struck.wait(), seconds + 20)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 20) -> None:
    """Wait for the condition, or fail and name it.

    What takes long is asked about less and less often: asking takes time from what is waited for.
    """
    began = time.monotonic()
    while not await condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(min(max(0.02, waited / 10), 0.3))


async def drained_projections(database: Connection) -> None:
    """Wait until every projection has folded the whole log."""

    async def folded() -> bool:
        return bool(await database.fetchval("SELECT bool_and(behind = 0) FROM projection_status WHERE stage = 'live'"))

    await eventually(folded, "every projection at the end of the log")
