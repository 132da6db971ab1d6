"""An address may name several hosts: a connection is made to the one that takes writes, whatever the others do."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.support.proxy import proxied
from usage_service.shared import connecting
from usage_service.shared.postgres import connect, open_pool
from usage_service.shared.settings import SettingsError

READ_WRITE = "?target_session_attrs=read-write"


def several(*urls: str) -> str:
    """Return one address of the hosts of these."""
    login, _, place = urls[0].rpartition("@")
    hosts = ",".join(url.rpartition("@")[2].partition("/")[0] for url in urls)
    return f"{login}@{hosts}/{place.partition('/')[2]}{READ_WRITE}"


async def answers(url: str) -> bool:
    connection = await connect(url, application="tests")
    try:
        return bool(await connection.fetchval("SELECT true"))
    finally:
        await connection.close()


@pytest.mark.parametrize("fault", ["cut", "swallow"])
async def test_a_host_that_is_away_is_passed_over(fault: str, database_url: str) -> None:
    async with proxied(database_url) as (proxy, away), proxied(database_url) as (_, well):
        getattr(proxy, fault)()
        assert await answers(several(away, well))


async def test_who_waits_for_less_comes_to_the_next_host_too(database_url: str) -> None:
    """A host that swallows everything is tried last after its first failure, even one that was not waited for."""
    async with proxied(database_url) as (proxy, away), proxied(database_url) as (_, well):
        proxy.swallow()
        url = several(away, well)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await connect(url, application="tests")
        assert connecting.CONNECT_SECONDS / 2 > 0.3
        assert await answers(url)
        async with open_pool(url, role="usage_server", application="tests", size=2) as pool, pool.acquire() as opened:
            assert await opened.fetchval("SELECT true")


async def test_an_address_of_the_next_version_of_ip_may_be_among_them(database_url: str, unused_tcp_port: int) -> None:
    away = database_url.replace(f"@127.0.0.1:{urlsplit(database_url).port}/", f"@[::1]:{unused_tcp_port}/")
    assert away != database_url
    assert await answers(several(away, database_url))


async def test_one_that_may_lead_to_a_demoted_host_is_refused(database_url: str) -> None:
    url = several(database_url, database_url).removesuffix(READ_WRITE)
    with pytest.raises(SettingsError, match="add target_session_attrs=read-write"):
        await connect(url, application="tests")
