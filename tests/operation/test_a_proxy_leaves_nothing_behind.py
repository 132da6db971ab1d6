"""The proxy of the tests ends a connection that leads nowhere, and keeps nothing of those that have ended."""

from __future__ import annotations

import asyncio

from tests.support.proxy import proxied
from tests.support.servers import eventually
from usage_service.local.ports import free_port


async def opened(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("tcp://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_who_asks_for_nobody_is_not_left_waiting() -> None:
    async with proxied(f"tcp://127.0.0.1:{free_port()}") as (_, url):
        reader, writer = await opened(url)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_nothing_is_kept_of_connections_that_ended() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as behind:
        _, port = behind.sockets[0].getsockname()
        async with proxied(f"tcp://127.0.0.1:{port}") as (proxy, url):
            for _ in range(3):
                reader, writer = await opened(url)
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
                writer.close()

            async def nothing() -> bool:
                return not proxy.kept

            await eventually(nothing, "the proxy keeps nothing")
            assert proxy.accepted == 3
