"""End what lasts with the token or the session that opened it: nothing is sent that comes after two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec
import pytest
from aiohttp import ClientPayloadError, ClientResponse, web

from tests.conftest import Start
from tests.support.build_streams import following
from tests.support.building import ask, asked, cancel, history
from tests.support.held_readings import held_batches
from tests.support.night_calls import night_of
from tests.support.proxy import proxied
from tests.support.servers import Client, Connection, event, eventually, post, registered
from usage_service import tokens
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.settings import ServerSettings
from usage_service.tokens import create_token, revoke_tokens
from usage_service.web import waiting
from usage_service.web.access import COOKIE, Access

OWN = "the operator's own token"
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
OPERATOR = {"Authorization": f"Bearer {OWN}"}
SAME = {"Sec-Fetch-Site": "same-origin"}
YEAR = timedelta(days=365)


@pytest.fixture
def settings(settings: ServerSettings) -> ServerSettings:
    return msgspec.structs.replace(settings, token=OWN)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "CHECK_SECONDS", 0.05)


async def reader(database: Connection) -> dict[str, str]:
    """Make a token named reader; return the header that shows it."""
    return {"Authorization": f"Bearer {await create_token(database, 'reader', ['read'], YEAR)}"}


async def broken_off(response: ClientResponse) -> None:
    """Read until the answer is broken off, not ended."""
    async with asyncio.timeout(20):
        with pytest.raises(ClientPayloadError):
            await response.read()


async def is_known(client: Client) -> bool:
    return (await ask(client)).status == 202


def noted_checks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each check of whether a request may go on: its result, or the error where the database does not say."""
    checks = list[object]()
    still_opens = Access.still_opens

    async def noted(access: Access, request: web.Request) -> bool:
        try:
            checks.append(await still_opens(access, request))
        except UNAVAILABLE as error:
            checks.append(error)
            raise
        return bool(checks[-1])

    monkeypatch.setattr(Access, "still_opens", noted)
    return checks


async def are_several(checks: list[object], kinds: tuple[type, ...] = (bool,)) -> bool:
    """Return whether three checks or more had such results."""
    return sum(isinstance(check, kinds) for check in checks) > 2


@asynccontextmanager
async def posting(client: Client) -> AsyncIterator[None]:
    """Post one event after the other."""

    async def go_on() -> None:
        while True:
            async with client.post("/v1/events", json=event(), headers=OPERATOR) as response:
                assert response.status == 201

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_tail_sends_nothing_that_comes_two_seconds_after(client: Client, database: Connection) -> None:
    async with posting(client):
        response = await client.get("/v1/events?wait=300", headers=await reader(database))
        await response.content.readline()
        revoked_at = await database.fetchval("SELECT clock_timestamp()")
        await revoke_tokens(database, "reader")
        lines = list[bytes]()

        async def read() -> None:
            async with asyncio.timeout(20):
                async for line in response.content:
                    lines.append(line)

        with pytest.raises(ClientPayloadError):
            await read()
    recorded_at = datetime.fromisoformat(msgspec.json.decode(lines[-1])["recorded_at"])
    assert recorded_at - revoked_at < timedelta(seconds=2.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/v1/events?wait=300", "{place}/events"])
async def test_a_stream_with_nothing_to_send_ends(client: Client, database: Connection, path: str) -> None:
    client.session.headers.update(OPERATOR)
    await post(client, registered("gc_ms"))

    await eventually(lambda: is_known(client), "the probe is known")
    place = (await ask(client)).headers["Location"]
    response = await client.get(path.format(place=place), headers=await reader(database))
    assert response.status == 200
    await response.content.readline()
    await revoke_tokens(database, "reader")
    await broken_off(response)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "path",
    ["{build}", "{night}", "/v1/popularity?product=fog&at_least=1000000&wait=60"],
    ids=["build", "night", "read"],
)
async def test_a_request_that_waits_ends(
    client: Client, database: Connection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.session.headers.update(OPERATOR)
    await post(client, registered("gc_ms"))
    await eventually(lambda: is_known(client), "the probe is known")
    build = (await ask(client)).headers["Location"]
    path = path.format(build=build, night=f"/v1/nights/{await night_of(database, 'gc_ms', channel='beta')}")
    checks = noted_checks(monkeypatch)
    waited = asyncio.create_task(client.get(path, headers={"Prefer": "wait=60"} | await reader(database)))
    await eventually(lambda: are_several(checks), "the request does not wait")
    await revoke_tokens(database, "reader")
    async with asyncio.timeout(20):
        answer = await waited
    assert answer.status == 401
    assert "was revoked" in (await answer.json())["detail"]


@pytest.mark.usefixtures("impatient")
async def test_an_arrow_stream_ends_while_its_next_batch_is_under_way(client: Client, database: Connection) -> None:
    with held_batches() as let:
        response = await client.get("/v1/events", headers=ARROW | await reader(database))
        assert response.status == 200
        await revoke_tokens(database, "reader")
        asyncio.get_running_loop().call_later(1, let.set)  # who stops early waits for a batch for some seconds
        await broken_off(response)


@pytest.mark.usefixtures("impatient")
async def test_a_session_that_ends_ends_its_streams(client: Client) -> None:
    answer = await client.post("/login", json={"token": OWN}, headers=SAME)
    shown = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE].value}"}
    client.session.cookie_jar.clear()
    response = await client.get("/v1/events?wait=300", headers=shown)
    assert response.status == 200
    assert (await client.delete("/login", headers=shown | SAME)).status == 204
    await broken_off(response)


@pytest.mark.usefixtures("impatient")
async def test_streams_of_the_operator_and_those_that_need_no_token_stay(
    start: Start, client: Client, settings: ServerSettings
) -> None:
    open_to_all = await start(msgspec.structs.replace(settings, open_reads=True))
    for response in (
        await client.get("/v1/events?wait=1", headers=OPERATOR),
        await open_to_all.get("/v1/events?wait=1", headers={"Authorization": "Bearer us_" + "A" * 43}),
    ):
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.usefixtures("impatient")
async def test_a_stream_waits_while_the_database_does_not_say_whether_it_may_go_on(
    database: Connection, start: Start, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "OLD_SECONDS", 0.0)
    checks = noted_checks(monkeypatch)
    async with proxied(settings.database_url) as (proxy, url):
        client = await start(msgspec.structs.replace(settings, database_url=url))
        client.session.headers.update(OPERATOR)
        await post(client, registered("gc_ms"))
        await eventually(lambda: is_known(client), "the probe is known")
        build = await asked(client)
        client.session.headers.update(await reader(database))
        async with following(client, build) as stream:
            await stream.read(1)
            proxy.cut()
            await eventually(lambda: are_several(checks, UNAVAILABLE), "the stream was not told whether it may go on")
            proxy.restore()
            await cancel(database, build)
            assert await stream.read() == await history(database, build)
