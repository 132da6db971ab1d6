"""Signing in opens a session, whose cookie no script reads, and no page of another origin can use to write.

The cookie is not the token; the session ends with the token, by signing out, and by itself, on every server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
import pytest_asyncio

from tests.support.building import served, wanted
from tests.support.pages import shown
from tests.support.servers import Client, connected, eventually
from usage_service import tokens
from usage_service.queries import query
from usage_service.tokens import create_token, revoke_tokens
from usage_service.web.access import COOKIE
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "the operator's own; token, \u00fc"
SAME = {"Sec-Fetch-Site": "same-origin"}
NEEDED = {"/releases/probes": "?at=2026-11-20", "/releases/distributions": "?of=nightly&version=141"}
PAGES = [
    route.path + NEEDED.get(route.path, "") for route in PAGE_ROUTES if route.scope == "read" and "{" not in route.path
]


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
    cookie = await shows(client)
    assert (await client.get("/", headers=cookie)).status == 200
    response = await client.delete("/login", headers=cookie | SAME)
    gone = SimpleCookie(response.headers["Set-Cookie"])[COOKIE]
    assert (response.status, gone.value, gone["max-age"]) == (204, "", "0")
    assert (await client.get("/", headers=cookie)).status == 401, "the server has ended it, whoever kept the cookie"


async def test_who_signs_in_again_has_no_session_left_of_before(client: Client) -> None:
    first = await shows(client)
    assert (await client.post("/login", json={"token": OWN}, headers=SAME | first)).status == 204
    client.session.cookie_jar.clear()
    assert (await client.get("/", headers=first)).status == 401


async def test_a_session_is_no_token_and_a_token_no_session(client: Client, worker_database_url: str) -> None:
    async with connected(worker_database_url) as database:
        token = await create_token(database, "person", ["read"], timedelta(days=1))
        secret = (await cookie_of(client, token))[COOKIE].value
        assert token not in secret
        assert (await client.get("/", headers={"Authorization": f"Bearer {secret}"})).status == 401
        for name in (COOKIE, "usage_token"):
            assert (await client.get("/", headers={"Cookie": f"{name}={token}"})).status == 401
        stored = await database.fetchval("SELECT string_agg(s::text, ' ') FROM page_sessions s")
        assert secret not in stored
        assert token not in stored


async def open_on(servers: list[Client], cookie: dict[str, str]) -> list[bool]:
    """Return whether each server takes the session."""
    return [(await server.get("/v1/popularity", headers=cookie)).status == 200 for server in servers]


@pytest.mark.parametrize("ended", ["revoked", "expired", "signed out", "session expired"])
async def test_it_ends_everywhere(
    client: Client, worker_database_url: str, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", 0.3)  # how soon: after a constant of two seconds
    async with served(worker_database_url, token=OWN) as other, connected(worker_database_url) as database:
        token = await create_token(database, "leaver", ["read"], timedelta(days=1))
        cookie, servers = await shows(client, token), [client, other]
        stays = await shows(client)
        assert await open_on(servers, cookie) == [True, True]
        if ended == "revoked":
            assert await revoke_tokens(database, "leaver") == 1
        elif ended == "signed out":
            assert (await client.delete("/login", headers=cookie | SAME)).status == 204
        elif ended == "expired":
            await database.execute("UPDATE tokens SET expires_at = created_at + interval '1 ms' WHERE name = 'leaver'")
        else:
            await database.execute(
                "UPDATE page_sessions SET expires_at = created_at + interval '1 ms' WHERE token_id IS NOT NULL"
            )

        async def gone() -> bool:
            return not any(await open_on(servers, cookie))

        await eventually(gone, "no server takes it any more", seconds=10)
        assert await open_on(servers, stays) == [True, True]
        await revoke_tokens(database, "leaver")


async def test_the_operators_session_ends_with_the_operators_token(client: Client, worker_database_url: str) -> None:
    cookie = await shows(client)
    async with served(worker_database_url, token="another token of the operator's") as changed:
        assert await open_on([client, changed], cookie) == [True, False]


async def test_a_token_has_so_many_sessions(client: Client, worker_database_url: str) -> None:
    async with connected(worker_database_url) as database:
        token = await create_token(database, "busy", ["read"], timedelta(days=1))
        cookies = [await shows(client, token) for _ in range(103)]
        of_it = "SELECT count(*) FROM page_sessions JOIN tokens USING (token_id) WHERE name = 'busy'"
        assert await database.fetchval(of_it) == 100
    answers = [(await client.get("/v1/popularity", headers=cookie)).status for cookie in cookies]
    assert answers == [401] * 3 + [200] * 100


async def test_a_page_view_asks_the_database_for_no_session(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", 600.0)
    cookie = await shows(client)
    assert await open_on([client], cookie) == [True]
    reads: list[str] = []

    def noted(file: str, name: str) -> str:
        reads.append(name)
        return query(file, name)

    monkeypatch.setattr(tokens, "query", noted)
    assert await open_on([client] * 5, cookie) == [True] * 5
    assert reads == []


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
