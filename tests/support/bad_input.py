"""What the tests of bad input have in common: one service for all, and how a refusal must look."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, settings
from yarl import URL

from tests.conftest import SECRET
from tests.support.servers import Client, JsonObject, ProductionServer
from usage_service.service import Service
from usage_service.shared.settings import ServerSettings
from usage_service.web.api.routes import Route
from usage_service.web.keys import SERVICE
from usage_service.web.server import create_app

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
A_BUILD = "6d0a3b0f-5a0c-4b0e-9d7c-3f1e0c8b7a51"
FILLED = {"{build_id}": A_BUILD, "{night_id}": A_BUILD, "{product}": "fog", "{probe}": "gc_ms"}
INSIDE = re.compile(r"Traceback|File \"|asyncpg|usage_service|\.py\b|SELECT |postgresql://", re.IGNORECASE)
STATEMENTS = ["'; DROP TABLE event_log; --", "' OR '1'='1", "1; SELECT pg_sleep(9)", "fog') UNION SELECT 1 --"]


FUZZING = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@asynccontextmanager
async def one_service(database_url: str) -> AsyncIterator[Client]:
    """Serve all tests of a module: no bad input may harm it."""
    deaths: list[bool] = []
    service_settings = ServerSettings(database_url=database_url, visitor_secret=SECRET)
    async with TestClient(ProductionServer(create_app(service_settings, lambda: deaths.append(True)))) as client:
        yield client
        assert not deaths


def service(client: Client) -> Service:
    """Return the service that the client talks to."""
    assert client.app is not None
    return client.app[SERVICE]


def filled(path: str) -> str:
    """Return a route's path with something in the place of its variables."""
    return re.sub(r"{\w+}", lambda name: FILLED.get(name[0], "x"), path)


def named(route: Route) -> str:
    """Return what a route is called in the name of a test."""
    return f"{route.method} {route.path}"


async def refused(response: ClientResponse, status: int) -> JsonObject:
    """Return the problem, after it was checked to be one that shows nothing inside."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    assert not INSIDE.search(text)
    body: JsonObject = json.loads(text)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


async def get(client: Client, path_and_query: str) -> ClientResponse:
    """Send the path as it is, without another look at its escapes."""
    return await client.get(URL(path_and_query, encoded=True))


@asynccontextmanager
async def spoken(client: Client, data: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection of its own, on which these bytes are sent."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(data)
        await writer.drain()
        yield reader, writer
    finally:
        writer.transport.abort()
