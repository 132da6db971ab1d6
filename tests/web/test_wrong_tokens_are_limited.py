"""Who guesses tokens is slowed down by address, logged and counted; others' guesses lock no right token out."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from structlog.testing import capture_logs

from tests.support.bad_input import filled
from tests.support.building import served
from tests.support.servers import Client, connected
from usage_service.shared.settings import SettingsError
from usage_service.tokens import create_token
from usage_service.web import guesses
from usage_service.web.api.routes import ROUTES
from usage_service.web.guesses import Guesses, proxies_of

OWN = "the operator's own token"
AT_ONCE = 20
ELSEWHERE = "127.0.0.2"


@pytest_asyncio.fixture
async def client(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(guesses, "AT_ONCE", AT_ONCE)
    monkeypatch.setattr(guesses, "SECONDS_EACH", 600.0)  # none is forgotten while this runs, however slowly
    async with served(database_url, token=OWN, trusted_proxies="127.0.0.1") as client:
        yield client


async def ask(client: Client, token: str, forwarded_for: str = "192.0.2.1", path: str = "/v1/popularity") -> int:
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": forwarded_for}
    async with client.get(path, headers=headers) as response:
        if response.status == 429:
            assert response.content_type == "application/problem+json"
            assert 0 < int(response.headers["Retry-After"]) <= 600
        return response.status


async def sign_in(client: Client, token: str, forwarded_for: str = "192.0.2.1") -> int:
    async with client.post("/login", json={"token": token}, headers={"X-Forwarded-For": forwarded_for}) as response:
        client.session.cookie_jar.clear()
        return response.status


async def test_300_guesses_are_refused_after_some_and_leave_a_trace(client: Client) -> None:
    with capture_logs() as logged:
        answers = Counter([await ask(client, f"guess number {number}") for number in range(150)])
        answers.update([await sign_in(client, f"guess number {number}") for number in range(150)])
    assert answers == {401: AT_ONCE, 429: 300 - AT_ONCE}
    lines = [line for line in logged if line["event"] == "wrong_token"]
    assert 1 <= len(lines) < 100
    assert {(line["address"], line["log_level"]) for line in lines} == {("192.0.2.1", "warning")}
    assert "guess number" not in str(logged)
    async with client.get("/metrics", headers={"Authorization": f"Bearer {OWN}"}) as response:
        text = await response.text()
    assert f'glam_wrong_tokens_total{{answer="refused"}} {AT_ONCE}.0' in text
    assert f'glam_wrong_tokens_total{{answer="limited"}} {300 - AT_ONCE}.0' in text


async def test_a_right_token_opens_whatever_others_guess(client: Client, database_url: str) -> None:
    async with connected(database_url) as database:
        token = await create_token(database, "app", ["read"], timedelta(days=1))
    for number in range(AT_ONCE + 1):
        await ask(client, f"guess {number}")
    assert await ask(client, "one more") == 429
    assert await ask(client, token) == 200, "of 256 random bits nothing is guessed, at the same address either"
    assert await ask(client, OWN) == 429, "whether this would be right is not said"
    assert await sign_in(client, OWN) == 429
    for elsewhere in ("192.0.2.2", "2001:db8::1", ""):
        assert await ask(client, OWN, elsewhere) == 200
        assert await sign_in(client, OWN, elsewhere) == 204
        assert await ask(client, "wrong", elsewhere) == 401
    connector = aiohttp.TCPConnector(local_addr=(ELSEWHERE, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        headers = {"Authorization": f"Bearer {OWN}", "X-Forwarded-For": "192.0.2.1"}  # from nobody who is trusted
        async with session.get(client.make_url("/v1/popularity"), headers=headers) as response:
            assert response.status == 200


async def test_a_long_token_of_the_operator_is_not_locked_out_either(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "AT_ONCE", 2)
    own = "the operator's own token of which nobody guesses so much as half"
    async with served(database_url, token=own) as client:
        assert [await ask(client, f"{own[:-1]}{number}") for number in range(4)] == [401, 401, 429, 429]
        assert [await ask(client, f"short {number}") for number in range(2)] == [429, 429]
        assert await ask(client, own) == 200


async def test_every_route_that_needs_a_token_is_limited(client: Client) -> None:
    for number in range(AT_ONCE):
        await ask(client, f"guess {number}")
    headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": "192.0.2.1"}
    for route in ROUTES:
        async with client.request(route.method, filled(route.path), headers=headers) as response:
            assert (response.status == 429) == (route.scope != "open"), route


async def test_right_ones_and_requests_without_one_are_not_counted(client: Client) -> None:
    for _ in range(AT_ONCE + 5):
        assert await ask(client, OWN) == 200
        async with client.get("/v1/popularity", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
            assert response.status == 401
    assert await ask(client, "wrong") == 401


async def test_where_no_token_is_needed_a_wrong_one_does_no_harm(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "AT_ONCE", 2)
    async with served(database_url) as client:
        assert {await ask(client, f"old {number}") for number in range(9)} == {200}


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "address"),
    [
        (None, "192.0.2.7", ["203.0.113.5"], "192.0.2.7"),
        ("10.0.0.0/8", "10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.0/8", "10.1.1.1", ["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.0/8", "10.1.1.1", ["198.51.100.1", "203.0.113.5, 10.2.2.2"], "203.0.113.5"),
        ("10.0.0.0/8,203.0.113.5", "10.1.1.1", ["198.51.100.1, 203.0.113.5"], "198.51.100.1"),
        ("10.0.0.0/8", "192.0.2.7", ["203.0.113.5"], "192.0.2.7"),
        ("10.0.0.0/8", "10.1.1.1", [], "10.1.1.1"),
        ("10.0.0.0/8", "10.1.1.1", ["nobody, x"], "10.1.1.1"),
        ("::1", "::1", ["2001:db8:0:7::1"], "2001:db8:0:7::/64"),
        ("127.0.0.1", "::ffff:127.0.0.1", ["203.0.113.5"], "203.0.113.5"),
    ],
)
def test_the_address_is_the_last_that_is_no_trusted_proxys(
    proxies: str | None, remote: str, forwarded: list[str], address: str
) -> None:
    headers = [("X-Forwarded-For", one) for one in forwarded]
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers)).clone(remote=remote)
    assert Guesses(proxies_of(proxies)).address_of(request) == address


@pytest.mark.parametrize("wrong", ["nobody", "10.0.0.1/8", "10.0.0.0/8;10.1.0.0/16"])
def test_networks_that_are_none_are_named_at_the_start(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"USAGE_SERVICE_TRUSTED_PROXIES: .* give addresses or networks by commas"):
        proxies_of(wrong)
