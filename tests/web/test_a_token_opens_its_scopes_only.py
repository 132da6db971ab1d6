"""A token opens the routes of its scopes until it expires, and names the source of events; no more of it is stored."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import NamedTuple, Self, get_args

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.support.bad_input import filled, named, service
from tests.support.building import served
from tests.support.servers import Client, Connection, connected, event, eventually
from usage_service import tokens
from usage_service.tokens import FEED, FORM, Tokens, TokenScope, create_token, digest_of, list_tokens, revoke_tokens
from usage_service.web.api.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "the operator's own token"
SCOPES: list[TokenScope] = [scope for scope in get_args(TokenScope) if scope != FEED]
GUARDED = [route for route in ROUTES if route.scope != FEED]  # a feed takes its token from the address
SETS = [*([scope] for scope in SCOPES), SCOPES[::2], SCOPES[1:]]  # each alone, and some together
YEAR = timedelta(days=365)


class Doors(NamedTuple):
    """Client of a service that needs tokens, and its database."""

    client: Client
    database: Connection


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="doors")
async def one_doors(module_database_url: str) -> AsyncIterator[Doors]:
    async with served(module_database_url, token=OWN) as client, connected(module_database_url) as database:
        yield Doors(client, database)


async def knock(doors: Doors, route: Route, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    path = filled(route.path)
    async with doors.client.request(route.method, path, headers=headers, allow_redirects=False) as response:
        if response.status in (401, 403):
            assert response.content_type == "application/problem+json"
            assert f'scope="{route.scope}"' in response.headers["WWW-Authenticate"]
        return response.status


@pytest.mark.parametrize("scopes", SETS, ids=",".join)
async def test_every_route_is_opened_by_its_scope_and_no_other(doors: Doors, scopes: list[TokenScope]) -> None:
    token = await create_token(doors.database, "matrix", scopes, YEAR)
    for route in GUARDED:
        status = await knock(doors, route, token)
        assert (status == 403) == (route.scope not in ("open", *scopes)), named(route)
        assert status != 401


@pytest.mark.parametrize("route", [route for route in GUARDED if route.scope != "open"], ids=named)
async def test_the_operators_token_opens_all_and_none_opens_nothing(doors: Doors, route: Route) -> None:
    assert await knock(doors, route, OWN) not in (401, 403)
    assert await knock(doors, route, None) == 401
    assert await knock(doors, route, "us_" + "A" * 43) == 401


async def post_as(doors: Doors, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with doors.client.post("/v1/events", json=event(), headers=headers) as response:
        return response.status


async def test_events_are_from_whom_the_token_names(doors: Doors) -> None:
    for name in ("glam-app", "etl"):
        assert await post_as(doors, await create_token(doors.database, name, ["events"], YEAR)) == 201
        assert await doors.database.fetchval("SELECT source FROM event_log ORDER BY position DESC LIMIT 1") == name
    assert await post_as(doors, OWN) == 201
    assert await doors.database.fetchval("SELECT source FROM event_log ORDER BY position DESC LIMIT 1") == "app"


async def test_a_data_request_is_from_whom_the_token_names(doors: Doors) -> None:
    token = await create_token(doors.database, "glam-front-end", ["read"], YEAR)
    query = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": "gc_ms", "aggregationLevel": "version"}
    headers = {"Authorization": f"Bearer {token}"}
    assert (await doors.client.post("/api/v1/data/", json={"query": query}, headers=headers)).status == 404
    row = await doors.database.fetchrow("SELECT type, source FROM event_log ORDER BY position DESC LIMIT 1")
    assert tuple(row or ()) == ("probe_viewed", "glam-front-end")


async def test_a_revoked_token_opens_nothing_within_seconds(doors: Doors) -> None:
    first, second = [await create_token(doors.database, "leaver", ["events"], YEAR) for _ in range(2)]
    stayer = await create_token(doors.database, "stayer", ["events"], YEAR)
    assert [await post_as(doors, token) for token in (first, second, stayer)] == [201, 201, 201]
    [one, *_] = [token for token in await list_tokens(doors.database) if token.name == "leaver"]
    assert await revoke_tokens(doors.database, str(one.token_id)) == 1

    async def closed(token: str) -> bool:
        return await post_as(doors, token) == 401

    await eventually(lambda: closed(second), "the one that was revoked is refused")
    assert await post_as(doors, first) == 201
    assert await revoke_tokens(doors.database, "leaver") == 1
    assert await revoke_tokens(doors.database, "leaver") == 0
    await eventually(lambda: closed(first), "and the other of the name")
    assert await post_as(doors, stayer) == 201


async def test_a_token_ends_by_itself_at_once(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KNOWN_SECONDS", 600)
    token = await create_token(doors.database, "short", ["events"], YEAR)
    assert await post_as(doors, token) == 201
    with monkeypatch.context() as later:
        later.setattr(tokens, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + 2 * YEAR))
        assert await post_as(doors, token) == 401
    assert await post_as(doors, token) == 201


async def test_many_ask_and_the_table_is_read_once_in_a_while(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await create_token(doors.database, "crowd", ["events"], YEAR)
    assert await post_as(doors, token) == 201
    reads: list[float] = []
    read = Tokens._read

    async def counted(self: Tokens) -> None:
        reads.append(asyncio.get_running_loop().time())
        await read(self)

    monkeypatch.setattr(Tokens, "_read", counted)
    started = asyncio.get_running_loop().time()
    strangers = ["us_" + f"{number:043}" for number in range(100)]
    assert set(await asyncio.gather(*(post_as(doors, token) for _ in range(100)))) == {201}
    assert set(await asyncio.gather(*(post_as(doors, stranger) for stranger in strangers))) == {401}
    seconds = asyncio.get_running_loop().time() - started
    assert len(reads) <= 2 + seconds / tokens.NEW_SECONDS


async def test_what_does_not_look_like_a_token_is_not_looked_for(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_self: Tokens) -> None:
        raise AssertionError("the table was read")

    monkeypatch.setattr(Tokens, "_read", never)
    for text in (
        "x",
        "us_",
        "us_" + "A" * 42,
        "us_" + "A" * 44,
        "us_" + "é" * 43,
        "' OR 1=1 --",
        "us_" + "A" * 42 + "\xff",
    ):
        assert await post_as(doors, text) == 401


async def test_while_the_database_is_away_the_known_stay_known_for_a_while(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await create_token(doors.database, "patient", ["events"], YEAR)
    known = Tokens(service(doors.client).pool)
    assert await known.find(token) is not None

    class Away:
        def acquire(self, timeout: float) -> None:
            raise ConnectionRefusedError

    monkeypatch.setattr(known, "_pool", Away())
    monkeypatch.setattr(known, "_tried_at", 0.0)
    with capture_logs() as logged:
        assert await known.find(token) is not None
    assert [line["event"] for line in logged] == ["tokens_not_read"]
    monkeypatch.setattr(known, "_tried_at", 0.0)
    monkeypatch.setattr(known, "_read_at", -tokens.OLD_SECONDS - 1e9)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await known.find(token)


async def test_while_the_database_is_away_those_who_wait_are_told_together(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Tokens(service(doors.client).pool)
    tried, ended = list[object](), asyncio.Event()

    class Away:
        def acquire(self, **wanted: object) -> Self:
            tried.append(wanted)
            return self

        async def __aenter__(self) -> None:
            await ended.wait()
            raise ConnectionRefusedError

        async def __aexit__(self, *_error: object) -> None: ...

    monkeypatch.setattr(waiting, "_pool", Away())
    asked = [asyncio.create_task(waiting.find("us_" + "A" * 43)) for _ in range(9)]
    await asyncio.sleep(0)
    ended.set()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, ConnectionError) for error in told)
    assert len(tried) == 1


async def test_only_a_hash_is_kept_and_only_the_server_sees_it(doors: Doors) -> None:
    token = await create_token(doors.database, "secretive", ["read"], YEAR)
    assert FORM.fullmatch(token)
    text = await doors.database.fetchval("SELECT row_to_json(t)::text FROM tokens t WHERE name = 'secretive'")
    assert token not in text
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert digest_of(token) == hashlib.sha256(token.encode()).digest()
    for role in ("usage_reader", "usage_builder", "usage_projections", "usage_server"):
        for statement in ("SELECT * FROM tokens", "DELETE FROM tokens", "SELECT revoke_token('a')"):
            if (role, statement) != ("usage_server", "SELECT * FROM tokens"):
                await refused_to(doors.database, role, statement)


async def refused_to(database: Connection, role: str, statement: str) -> None:
    await database.execute(f"SET ROLE {role}")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.execute(statement)
    finally:
        await database.execute("RESET ROLE")


@pytest.mark.parametrize(
    ("name", "scopes", "lifetime"),
    [("", ["read"], YEAR), ("A", ["read"], YEAR), ("a\n", ["read"], YEAR), ("a" * 64, ["read"], YEAR), ("a", [], YEAR),
     ("a", ["root"], YEAR), ("a", ["read"], timedelta(seconds=-1))],
)  # fmt: skip
async def test_no_token_is_made_that_could_not_be(
    doors: Doors, name: str, scopes: list[TokenScope], lifetime: timedelta
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await create_token(doors.database, name, scopes, lifetime)
