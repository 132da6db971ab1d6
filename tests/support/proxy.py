"""A TCP proxy on loopback that a test can cut or let swallow everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes on to one address; `cut` refuses and ends connections, `swallow` keeps them and answers nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._passes = asyncio.Event()
        self._passes.set()
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0

    @property
    def kept(self) -> int:
        """Return how much it has of connections: their ends, and what passes bytes on."""
        return len(self._writers) + len(self._tasks)

    def cut(self) -> None:
        """End every connection and those to come."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def lead_to(self, host: str, port: int) -> None:
        """Pass everything on to another address from now on."""
        self._target = host, port
        self.restore()

    def swallow(self) -> None:
        """Keep connections, and pass nothing on."""
        self._passes.clear()

    def restore(self) -> None:
        """Pass everything on again."""
        self._cut = False
        self._passes.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, until either side ends."""
        self.accepted += 1
        self._writers.add(writer)
        if not self._cut:
            with suppress(OSError):  # nobody may be behind
                await self._pass_on(reader, writer)
        writer.transport.abort()
        self._writers.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        pumps = {
            asyncio.create_task(self._pump(reader, up_writer)),
            asyncio.create_task(self._pump(up_reader, writer)),
        }
        self._writers.add(up_writer)
        self._tasks |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        up_writer.transport.abort()
        self._writers.discard(up_writer)
        self._tasks -= pumps

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()

    async def end(self) -> None:
        """Leave nothing behind."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Run a proxy before the server of the URL; return it and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user = parts.netloc.rpartition("@")[0]
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"))
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
