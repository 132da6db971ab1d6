"""Background tasks with an owner that notices when one of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)


class Tasks:
    """Runs tasks that should never end; calls `died` when one does, and cancels all at the end."""

    def __init__(self, died: Callable[[], None]) -> None:
        self._died = died
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def start(self, name: str, work: Awaitable[None]) -> None:
        """Start a task under a name for the logs."""
        self._tasks.add(asyncio.create_task(self._watch(name, work), name=name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    async def _watch(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
            log.error("background_task_ended", task=name)
        except Exception:
            log.exception("background_task_died", task=name)
        finally:
            if not self._closing:  # a cancellation that is not the owner's is a death too
                self._died()
