"""A server of the warehouse in a thread of this process, on the loopback interface."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from aiohttp import web

from warehouse.api.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aiohttp.typedefs import Middleware

START_SECONDS = STOP_SECONDS = 30.0
Ready = Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]]


@contextmanager
def served(database: Path, *, memory_limit: str = "2GB", middlewares: Sequence[Middleware] = ()) -> Iterator[str]:
    """Serve a seeded file from a thread until the context ends, and yield the server's URL."""
    ready: Ready = Future()
    app = partial(create_app, database, memory_limit=memory_limit, middlewares=middlewares)
    thread = Thread(target=lambda: asyncio.run(_serve(app, ready)), name="warehouse")
    thread.start()
    address, loop, stop = ready.result(START_SECONDS)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_SECONDS)


async def _serve(app: Callable[[], web.Application], ready: Ready) -> None:
    stop = asyncio.Event()
    try:
        runner = web.AppRunner(app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    except Exception as error:
        ready.set_exception(error)
        return
    host, port = runner.addresses[0][:2]
    ready.set_result((f"http://{host}:{port}", asyncio.get_running_loop(), stop))
    await stop.wait()
    await runner.cleanup()
