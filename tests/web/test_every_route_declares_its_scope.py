"""Every route declares a scope; where there is a token, only the open ones answer without it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import get_args

import msgspec
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient

from tests.conftest import SECRET, Start
from tests.support.servers import Client, ProductionServer
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.web.access import Scope
from usage_service.web.api.routes import ROUTES, Route
from usage_service.web.pages.routes import PAGE_ROUTES
from usage_service.web.server import create_app

TOKEN = "a-token-that-opens"
GUARDED = [route for route in ROUTES if route.scope not in ("open", "feed")]  # a feed takes its token from the address
OPEN = [route for route in ROUTES if route.scope == "open"]
WRONG = ["", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ü\xff"]


shared_loop = pytest.mark.asyncio(loop_scope="module")


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def filled(route: Route) -> str:
    return re.sub(r"{\w+}", "x", route.path)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guarded(module_database_url: str) -> AsyncIterator[Client]:
    settings = ServerSettings(database_url=module_database_url, visitor_secret=SECRET, token=TOKEN)
    async with TestClient(ProductionServer(create_app(settings, lambda: None))) as client:
        yield client


def test_the_scopes_are_those_that_are_declared(settings: ServerSettings) -> None:
    assert {route.scope for route in ROUTES} <= set(get_args(Scope))
    served = {
        (route.method, route.resource.canonical)
        for route in create_app(settings, lambda: None).router.routes()
        if route.resource is not None
    }
    declared = {(route.method, route.path) for route in (*ROUTES, *PAGE_ROUTES)}
    assert served == declared | {("HEAD", path) for method, path in declared if method == "GET"}
    assert {route.path for route in OPEN} <= {
        "/__heartbeat__",
        "/__lbheartbeat__",
        "/__version__",
        "/openapi.json",
        "/docs",
    }


@pytest.mark.parametrize("given", [None, *WRONG], ids=repr)
@shared_loop
async def test_without_the_token_the_answer_is_401(guarded: Client, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    for route in GUARDED:
        response = await guarded.request(route.method, filled(route), headers=headers)
        body = await response.json()
        assert response.status == body["status"] == 401, named(route)
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == f'Bearer scope="{route.scope}"'
        assert TOKEN not in await response.text()


@shared_loop
async def test_a_token_of_any_bytes_is_refused_not_choked_on(guarded: Client) -> None:
    reader, writer = await asyncio.open_connection(guarded.host, guarded.port)
    try:
        writer.write(b"GET /v1/popularity HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        async with asyncio.timeout(20):
            assert b" 400 " in await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("route", GUARDED, ids=named)
@pytest.mark.parametrize("kind", ["Bearer", "bearer"])
@shared_loop
async def test_the_token_opens(guarded: Client, route: Route, kind: str) -> None:
    headers = {"Authorization": f"{kind} {TOKEN}"}
    response = await guarded.request(route.method, filled(route), headers=headers, allow_redirects=False)
    assert response.status not in (401, 403, 500)


@pytest.mark.parametrize("route", OPEN, ids=named)
@shared_loop
async def test_open_routes_need_none(guarded: Client, route: Route) -> None:
    assert (await guarded.request(route.method, filled(route))).status in (200, 503)


async def test_open_reads_open_reading_and_nothing_else(start: Start, settings: ServerSettings) -> None:
    client = await start(msgspec.structs.replace(settings, token=TOKEN, open_reads=True))
    for route in GUARDED:
        response = await client.request(route.method, filled(route), allow_redirects=False)
        assert (response.status == 401) == (route.scope != "read"), named(route)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_without_a_token_no_host_is_served_but_loopback(settings: ServerSettings, host: str) -> None:
    exposed = msgspec.structs.replace(settings, host=host)
    with pytest.raises(SettingsError, match="USAGE_SERVICE_TOKEN"):
        create_app(exposed, lambda: None)
    create_app(msgspec.structs.replace(exposed, token=TOKEN), lambda: None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_a_token_is_not_needed(settings: ServerSettings, host: str) -> None:
    create_app(msgspec.structs.replace(settings, host=host), lambda: None)
