"""Threads for blocking work: each work has its own, and neither the process nor other work waits for it.

What such work needs of the event loop it waits for.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

CLOSING_SECONDS = 5.0

Result = TypeVar("Result")
Step = TypeVar("Step")


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


async def to_end(work: Callable[[], Result], name: str) -> Result:
    """Return the result of `work`, done in a thread; who is cancelled meanwhile waits for its end, but not for long.

    For work that uses what its caller closes: a database that is closed while a thread is in it may take the process.
    """
    working = in_thread(work, name)
    try:
        return await asyncio.shield(working)
    finally:
        if not working.done():
            await asyncio.wait([working], timeout=CLOSING_SECONDS)


async def in_turn(steps: Iterator[Step], name: str) -> AsyncGenerator[Step, None]:
    """Take the steps of an iterator in threads, each while the one before is used, and close it at the end.

    Who stops before that does not wait for long for a step that is under way: the iterator is then closed after it.
    """
    following = in_thread(partial(next, steps, None), name)
    try:
        while (step := await asyncio.shield(following)) is not None:
            following = in_thread(partial(next, steps, None), name)
            yield step
    finally:
        closing = partial(in_thread, partial(close, steps), name)
        await asyncio.wait([following], timeout=CLOSING_SECONDS)
        if following.done():
            await closing()
        else:
            following.add_done_callback(lambda _: closing())


def each(work: Callable[[Step], Result], steps: Iterator[Step]) -> Iterator[Result]:
    """Yield what `work` makes of each step, and close the steps at the end, as a generator expression would not."""
    try:
        yield from map(work, steps)
    finally:
        close(steps)


def close(steps: Iterator[Any]) -> None:
    """Close an iterator that may not have been taken to its end."""
    if isinstance(steps, Generator):
        steps.close()


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
