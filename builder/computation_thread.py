"""One computation in a thread of its own: its result, how far it is, and how to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.control import Control
from builder.threads import in_thread

Compute = Callable[[BuildRequest, Progress, Control], BuiltProbe]
"""Computes a probe; blocks, tells how far it is, and stops where `control` says so."""

CANCEL_SECONDS = 10.0


class Step(NamedTuple):
    """How far a computation is: its stage, percent of the whole, bytes read."""

    stage: str
    percent: int
    bytes: int


class Computation:
    """A computation that runs, and the latest step that it reported. `result` is its result to be."""

    def __init__(
        self, compute: Compute, request: BuildRequest, admit: Callable[[int, int], Awaitable[None]], name: str
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._step: Step | None = None
        self._last = Step("started", 0, 0)
        self._admit = admit
        self._control = Control(self._wait_for_admission)
        self.result = in_thread(partial(compute, request, self._report, self._control), name)

    async def moved(self, within: float) -> None:
        """Returns at the next step, when `look` is called, or after so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return
        self._moved.clear()

    def take_step(self) -> Step | None:
        """The latest step, if it was not taken yet."""
        step, self._step = self._step, None
        return step

    def look(self) -> None:
        """Has `moved` return now."""
        self._moved.set()

    def abandon(self) -> None:
        """Stops the thread at its next step or wait, and leaves the warehouse's job to another attempt."""
        self._control.abandon()

    async def cancel(self) -> None:
        """Stops the thread and the warehouse's job; returns when the warehouse knows, or after CANCEL_SECONDS."""
        await asyncio.wait([in_thread(self._control.cancel, "cancel")], timeout=CANCEL_SECONDS)

    def _report(self, stage: str, percent: int, read: int) -> None:
        self._control.check()
        step = Step(stage, max(percent, self._last.percent), read)
        if step != self._last:
            self._last = step
            self._loop.call_soon_threadsafe(self._move, step)

    def _move(self, step: Step) -> None:
        self._step = step
        self._moved.set()

    def _wait_for_admission(self, read: int, needed: int) -> None:
        self._control.check()
        asyncio.run_coroutine_threadsafe(self._admitted(read, needed), self._loop).result()

    async def _admitted(self, read: int, needed: int) -> None:
        await self._admit(read, needed)
