"""Threads for blocking work: each work has its own, and neither the process nor other work waits for it.

What such work needs of the event loop it waits for.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_thread(work: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Run `work` in a thread; return a future of its result or error, which may be dropped by whoever waited for it.

    It is a daemon thread, not one of the event loop's pool: the pool is small, stuck work takes the places of others
    in it, and the process would not end before all of its threads have ended.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved, or asyncio complains

    def deliver(outcome: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if future.done() else outcome())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error
            deliver(lambda: future.set_exception(failure))
        else:
            deliver(lambda: future.set_result(result))

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True).start()
    return future


def in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
    """Run a coroutine in the event loop and return its result. Called in another thread, which waits.

    After so many seconds the coroutine is cancelled and TimeoutError is raised.
    """
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result(seconds)
    except TimeoutError:
        future.cancel()
        raise
