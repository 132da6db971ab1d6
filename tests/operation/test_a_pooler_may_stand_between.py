"""Through PgBouncer in transaction mode the server works; who listens says that it needs a direct address."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from tests.support.building import ask, look, served, service
from tests.support.pooler import needs_pgbouncer, pooled
from tests.support.servers import Client, Connection, drained_projections, event, eventually, post, registered
from usage_service.shared.connecting import PooledError
from usage_service.shared.pooler import refuse_losing_pooler
from usage_service.shared.postgres import connect, open_pool
from usage_service.shared.settings import SettingsError

IGNORING = """ignore_startup_parameters = statement_timeout, lock_timeout, idle_in_transaction_session_timeout, \
 tcp_keepalives_idle, tcp_keepalives_interval, tcp_keepalives_count, role"""
LOSING = "max_prepared_statements = 0"  # as PgBouncer before 1.21
BEYOND = 50  # requests at once, for three sessions

pytestmark = needs_pgbouncer


@pytest.fixture
async def login_url(own_database_url: str, own_database: Connection, worker_id: str) -> AsyncIterator[str]:
    """Return the address as an application has it: with a login role that has the rights of the server."""
    name, password = f"glam_{worker_id}", secrets.token_hex(8)
    await own_database.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE usage_server")
    await own_database.execute(f"ALTER ROLE {name} SET statement_timeout = '30s'")
    parts = urlsplit(own_database_url)
    yield urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}"))
    await own_database.execute(f"DROP ROLE {name}")


@pytest.fixture(params=["", IGNORING], ids=["refusing", "ignoring"])
async def client(request: pytest.FixtureRequest, login_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """Run a server that reaches the database through a pooler, and listens directly."""
    async with (
        pooled(login_url, tmp_path, more=request.param) as url,
        served(url, listen_database_url=login_url) as client,
    ):
        yield client


async def test_everything_works(client: Client, own_database: Connection) -> None:
    await post(client, registered("gc_ms"))
    await asyncio.gather(*(post(client, event("probe_viewed", visitor=f"v{n}")) for n in range(BEYOND)))
    await drained_projections(own_database)
    answers = await asyncio.gather(*(client.get(f"/v1/popularity?limit={limit}") for limit in range(1, BEYOND)))
    assert {answer.status for answer in answers} == {200}
    lines = (await (await client.get("/v1/events")).read()).splitlines()
    arrow = await client.get("/v1/events?type=probe_viewed", headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert (len(lines), pa.ipc.open_stream(await arrow.read()).read_all().num_rows) == (BEYOND + 1, BEYOND)


async def test_who_waits_is_woken(client: Client, own_database: Connection) -> None:
    """The listener hears, though the pool goes through the pooler."""
    await post(client, registered("gc_ms"))
    await drained_projections(own_database)
    build = (await (await ask(client)).json())["build_id"]
    waiting = asyncio.create_task(look(client, build, Prefer="wait=30"))

    async def waits() -> bool:
        return service(client).watch.waiting == 1

    await eventually(waits, "the request waits")
    assert (await client.delete(f"/v1/builds/{build}")).status == 202
    assert (await (await waiting).json())["state"] == "cancelled"


async def test_what_is_new_is_found_without_a_direct_address(
    login_url: str, tmp_path: Path, own_database: Connection
) -> None:
    with capture_logs() as logs:
        async with pooled(login_url, tmp_path) as url, served(url) as client:

            async def said() -> bool:
                return any(entry["event"] == "listener_needs_a_direct_address" for entry in logs)

            await eventually(said, "the listener says so")
            assert not service(client).listener.connected
            await post(client, event("probe_viewed"))
            await drained_projections(own_database)
    [hint] = {entry["hint"] for entry in logs if entry["event"] == "listener_needs_a_direct_address"}
    assert "LISTEN_DATABASE_URL must be a direct address" in hint


@pytest.mark.parametrize("more", ["", IGNORING], ids=["refusing", "ignoring"])
async def test_a_direct_address_is_insisted_on(login_url: str, tmp_path: Path, more: str) -> None:
    async with pooled(login_url, tmp_path, more=more) as url:
        with pytest.raises(PooledError):
            await connect(url, application="tests", direct=True)


async def test_a_login_role_without_the_rights_is_told(
    login_url: str, tmp_path: Path, own_database: Connection
) -> None:
    name = urlsplit(login_url).username
    for undo, told in (
        (f"ALTER ROLE {name} SET synchronous_commit = off", f"ALTER ROLE {name} SET synchronous_commit = on"),
        (f"REVOKE usage_server FROM {name}", f"GRANT usage_server TO {name}"),
    ):
        await own_database.execute(undo)
        async with pooled(login_url, tmp_path) as url:
            with pytest.raises(SettingsError, match=told):
                async with open_pool(url, role="usage_server", application="tests", size=2):
                    pass


@pytest.mark.parametrize("more", ["", "server_round_robin = 1"], ids=["last first", "round robin"])
@pytest.mark.parametrize("size", [1, 3])
async def test_one_that_loses_prepared_statements_is_refused(
    login_url: str, tmp_path: Path, size: int, more: str
) -> None:
    async with pooled(login_url, tmp_path, size, f"{LOSING}\n{more}") as url:
        with pytest.raises(SettingsError, match="loses prepared statements between transactions; let it keep them"):
            async with open_pool(url, role="usage_server", application="tests", size=2):
                pass
        with pytest.raises(SettingsError, match="loses prepared statements"):  # as at the start of a program
            await connect(url, application="tests")


@pytest.mark.parametrize("more", ["", "server_round_robin = 1"], ids=["last first", "round robin"])
@pytest.mark.parametrize("size", [1, 3])
async def test_many_that_check_at_once_neither_mistake_it_nor_wait_for_each_other(
    login_url: str, tmp_path: Path, size: int, more: str
) -> None:
    async def checked(address: str) -> list[BaseException | None]:
        checks = [refuse_losing_pooler(address, {}) for _ in range(BEYOND)]
        async with asyncio.timeout(20):  # that of PgBouncer is two minutes
            return await asyncio.gather(*checks, return_exceptions=True)

    async with pooled(login_url, tmp_path, size, f"{LOSING}\n{more}") as losing:
        assert all(isinstance(told, SettingsError) and "loses" in str(told) for told in await checked(losing))
    async with pooled(login_url, tmp_path, size, more) as keeping:
        assert await checked(keeping) == [None] * BEYOND
