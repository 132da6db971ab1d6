"""Signing in keeps the token in a cookie that no script reads, and that no page of another origin can use to write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
import pytest_asyncio

from tests.support.building import served, wanted
from tests.support.pages import shown
from tests.support.servers import Client, connected
from usage_service.tokens import create_token
from usage_service.web.access import COOKIE
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "the operator's own; token, \u00fc"
SAME = {"Sec-Fetch-Site": "same-origin"}
PAGES = [route.path for route in PAGE_ROUTES if route.scope == "read" and "{" not in route.path]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url, token=OWN) as client:
        yield client


async def cookie_of(client: Client, token: str, **headers: str) -> SimpleCookie:
    response = await client.post("/login", json={"token": token}, headers=SAME | headers)
    assert response.status == 204, await response.text()
    client.session.cookie_jar.clear()  # each test shows it by itself
    return SimpleCookie(response.headers["Set-Cookie"])


async def shows(client: Client, token: str = OWN) -> dict[str, str]:
    """Sign in, and return the cookie header of the browser."""
    return {"Cookie": f"{COOKIE}={(await cookie_of(client, token))[COOKIE].value}"}


@pytest.mark.parametrize("path", PAGES)
async def test_who_is_not_signed_in_is_asked_to(client: Client, path: str) -> None:
    page = await shown(client, path, 401)
    [form] = page.all("form")
    assert form.attributes["data-following"] == path
    assert page.all("input", type="password")


@pytest.mark.parametrize("path", PAGES)
async def test_who_is_signed_in_sees_the_pages(client: Client, path: str) -> None:
    response = await client.get(path, headers=await shows(client) | {"Accept": "text/html"})
    assert response.status == 200
    assert {"Authorization", "Cookie"} <= {
        name.strip() for name in ",".join(response.headers.getall("Vary")).split(",")
    }


async def test_the_cookie_is_out_of_reach(client: Client) -> None:
    plain = (await cookie_of(client, OWN))[COOKIE]
    assert (plain["httponly"], plain["samesite"], plain["path"], plain["secure"]) == (True, "Strict", "/", "")
    behind_tls = (await cookie_of(client, OWN, **{"X-Forwarded-Proto": "https"}))[COOKIE]
    assert behind_tls["secure"] is True


@pytest.mark.parametrize("token", ["wrong", "us_" + "A" * 43, OWN[:-1]])
async def test_a_wrong_token_opens_nothing(client: Client, token: str) -> None:
    response = await client.post("/login", json={"token": token}, headers=SAME)
    assert response.status == 401
    assert "Set-Cookie" not in response.headers
    assert token not in await response.text()
    assert (
        await client.get("/", headers={"Cookie": f"{COOKIE}={token.encode('ascii', 'ignore').decode()}"})
    ).status == 401


async def test_a_cookie_opens_the_scopes_of_its_token(client: Client, worker_database_url: str) -> None:
    async with connected(worker_database_url) as database:
        token = await create_token(database, "reader", ["read"], timedelta(days=1))
    cookie = await shows(client, token)
    assert (await client.get("/builds", headers=cookie)).status == 200
    refused = await client.post("/v1/builds", json=wanted(), headers=cookie | SAME)
    assert refused.status == 403
    assert "scope" in (await refused.json())["detail"]


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        (SAME, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://example.org"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[x"}, False),
        ({}, False),
    ],
    ids=str,
)
async def test_only_the_services_own_pages_write_with_the_cookie(
    client: Client, headers: dict[str, str], may: bool
) -> None:
    cookie = await shows(client)
    answer = await client.post("/v1/builds", json=wanted("no_such_probe"), headers=cookie | headers)
    assert answer.status == (404 if may else 403)
    assert (await client.get("/v1/builds", headers=cookie | headers)).status == 200


async def test_the_origin_of_the_page_itself_may(client: Client) -> None:
    own = {"Origin": f"http://{client.host}:{client.port}"}
    answer = await client.post("/v1/builds", json=wanted("no_such_probe"), headers=await shows(client) | own)
    assert answer.status == 404


async def test_a_token_in_the_header_needs_no_origin(client: Client) -> None:
    headers = {"Authorization": f"Bearer {OWN}", "Sec-Fetch-Site": "cross-site"}
    assert (await client.post("/v1/builds", json=wanted("no_such_probe"), headers=headers)).status == 404


async def test_who_signs_out_shows_nothing_more(client: Client) -> None:
    response = await client.delete("/login", headers=await shows(client) | SAME)
    gone = SimpleCookie(response.headers["Set-Cookie"])[COOKIE]
    assert (response.status, gone.value, gone["max-age"]) == (204, "", "0")


@pytest.mark.parametrize(
    "place", ["https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)", "x"]
)
async def test_signing_in_leads_nowhere_else(client: Client, place: str) -> None:
    assert (await client.get("/login", params={"following": place})).status == 422


async def test_on_loopback_without_a_token_nothing_is_asked_and_other_origins_do_not_write(
    worker_database_url: str,
) -> None:
    async with served(worker_database_url) as open_client:
        assert (await open_client.get("/")).status == 200
        for headers, status in ((SAME, 404), ({}, 404), ({"Sec-Fetch-Site": "cross-site"}, 403)):
            answer = await open_client.post("/v1/builds", json=wanted("no_such_probe"), headers=headers)
            assert answer.status == status
