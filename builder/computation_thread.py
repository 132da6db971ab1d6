"""The thread that does a piece of work: its result, its latest step, and ways to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from builder.aggregates.probe import Progress
from builder.work import Done
from usage_service.shared.bigquery.control import Control
from usage_service.shared.threads import in_loop, in_thread

Run = Callable[[Progress, Control], Done]
"""Does the work; blocks, reports its steps, and stops where `control` says so."""

Account = Callable[[str, int], Coroutine[Any, Any, None]]
"""Accounts for the bytes of a warehouse's job of this id."""

CANCEL_SECONDS = 10.0
ACCOUNT_SECONDS = 60.0  # a call to a database that may be away for half a minute


class Step(NamedTuple):
    """A step of the work: its stage, the percent of the whole, the bytes read so far."""

    stage: str
    percent: int
    bytes: int


class ComputationThread:
    """A piece of work that is being done; `result` is a future of what came of it."""

    def __init__(self, run: Run, admit: Account, settle: Account, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._step: Step | None = None
        self._last = Step("started", 0, 0)
        self._control = Control(partial(self._account, admit), partial(self._account, settle))
        self.result = in_thread(partial(run, self._report, self._control), name)

    async def moved(self, within: float) -> None:
        """Wait for the next step, for a call of `wake`, or for `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return
        self._moved.clear()

    @property
    def step(self) -> Step | None:
        """Return the latest step; None when it was reported."""
        return self._step

    def was_reported(self, step: Step) -> None:
        """Note that a step was reported; a newer one still is to be."""
        if self._step is step:
            self._step = None

    @property
    def stage(self) -> str:
        """Return the stage that the thread is at."""
        return self._last.stage

    def wake(self) -> None:
        """Let `moved` return now."""
        self._moved.set()

    def abandon(self) -> None:
        """Stop the thread at its next step or wait, and leave the warehouse's job to another attempt."""
        self._control.abandon()

    def drain(self) -> None:
        """Let the thread finish, but stop it where it waits for a busy warehouse: it raises WorkAbandonedError."""
        self._control.drain()

    async def cancel(self) -> None:
        """Stop the thread and the warehouse's job; wait until the warehouse knows, for at most CANCEL_SECONDS."""
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

    def _account(self, account: Account, job: str, size: int) -> None:
        self._control.check()
        in_loop(self._loop, account(job, size), ACCOUNT_SECONDS)
