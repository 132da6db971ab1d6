"""Browsers never run, frame or sniff an answer, and pages of other origins cannot read it; HEAD is answered as GET."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.bad_input import filled, named, spoken
from tests.support.building import served
from tests.support.servers import Client
from usage_service.web.api.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client:
        yield client


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_every_answer_is_safe_to_hand_to_a_browser(client: Client, route: Route) -> None:
    async with client.request(route.method, filled(route.path), allow_redirects=False) as response:
        headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Server"] == "usage-service"
        assert not [name for name in headers if name.startswith("Access-Control")]


async def test_what_is_not_http_is_answered_as_safely(client: Client) -> None:
    async with spoken(client, b"nonsense\r\n\r\n") as (reader, _), asyncio.timeout(10):
        answer = (await reader.read()).decode()
    assert "nosniff" in answer
    assert "aiohttp" not in answer


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=named)
async def test_head_is_answered_as_get_without_the_body(client: Client, route: Route) -> None:
    path = filled(route.path)
    got = await client.get(path, allow_redirects=False)
    async with asyncio.timeout(10):
        head = await client.head(path, allow_redirects=False)
    assert (head.status, head.headers["Content-Type"]) == (got.status, got.headers["Content-Type"])
    assert await head.read() == b""
    got.close()


async def test_no_page_of_another_origin_may_ask(client: Client) -> None:
    asked = {"Origin": "https://glam.telemetry.mozilla.org", "Access-Control-Request-Method": "GET"}
    assert (await client.options("/v1/popularity", headers=asked)).status == 405


async def test_pages_of_the_origins_in_the_setting_may(worker_database_url: str) -> None:
    origins = "https://glam.telemetry.mozilla.org,http://localhost:3000"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with served(worker_database_url, cors_origins=origins, token="a token") as client:
        for origin in origins.split(","):
            allowed = await client.options("/api/v1/data/", headers=asked | {"Origin": origin})
            assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (204, origin)
            assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]
            refused = await client.get("/v1/popularity", headers={"Origin": origin})
            assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, origin)
            assert "Origin" in refused.headers["Vary"]
        other = await client.options("/api/v1/data/", headers=asked | {"Origin": "https://example.org"})
        assert other.status == 405
        assert "Access-Control-Allow-Origin" not in other.headers
