"""UsageClient: an app's way to the usage service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from usage_service.client import lifecycle
from usage_service.client.delivery_stats import Stats
from usage_service.client.ids import new_event_id
from usage_service.client.outgoing import Outgoing, UnfitEventError, encode_line, with_zone
from usage_service.client.rate_limited_log import Notes
from usage_service.client.settings import Settings
from usage_service.client.worker import Worker

MIB = 1024 * 1024


class UsageClient:
    """Records events and sends them in the background, each exactly once as far as the service is concerned.

    With `spool_dir`, a directory for this app's processes only, an event is on disk when `record` returns and outlives
    the process; with `durable` it is synced within about a second, and outlives the machine. Without, it is in memory.
    What does not fit (`max_spool_bytes` for the whole directory, then `max_queue_events` in memory) is dropped, the
    newest first, counted and logged. Waits between tries grow to `retry_seconds`. `source` is told to the service as
    its User-Agent. Make one client a process or one before forking; any thread may use it. Raises ValueError.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        spool_dir: Path | None = None,
        max_queue_events: int = 10_000,
        max_spool_bytes: int = 64 * MIB,
        batch_events: int = 500,
        linger_seconds: float = 0.2,
        timeout: float = 5,
        retry_seconds: float = 30,
        exit_seconds: float = 2,
        durable: bool = False,
        source: str = "app",
    ) -> None:
        self._settings = Settings(
            url=url,
            token=token,
            spool_dir=Path(spool_dir).absolute() if spool_dir else None,
            max_queue_events=max_queue_events,
            max_spool_bytes=max_spool_bytes,
            batch_events=batch_events,
            linger_seconds=linger_seconds,
            timeout=timeout,
            retry_seconds=retry_seconds,
            exit_seconds=exit_seconds,
            durable=durable,
            source=source,
        )
        self._notes = Notes()
        self._making = threading.Lock()
        self._worker: Worker | None = None

    def record(
        self,
        kind: str,
        /,
        *,
        visitor: str | None = None,
        product: str | None = None,
        channel: str | None = None,
        probe: str | None = None,
        data: Mapping[str, object] | None = None,
        occurred_at: datetime | None = None,
        event_id: UUID | str | None = None,
    ) -> str:
        """Records an event of a type and returns its id; never waits for the service and never raises.

        A time without a zone is local time. Events recorded again under their id are recorded once.
        """
        chosen = str(event_id or new_event_id())
        try:
            event = Outgoing(
                event_id=chosen,
                type=kind,
                occurred_at=with_zone(occurred_at),
                visitor=visitor,
                product=product,
                channel=channel,
                probe=probe,
                data=data,
            )
            self._put(event)
        except Exception as error:
            self._notes.warn("recording_failed", level=logging.ERROR, type=kind, error=type(error).__name__)
        return chosen

    def flush(self, seconds: float = 5) -> bool:
        """Sends at once; True when all that this process recorded before is settled, False when time is up."""
        worker = self._worker
        return worker.flush(seconds) if worker else True

    async def aflush(self, seconds: float = 5) -> bool:
        """The same without blocking the event loop."""
        return await _in_thread(self.flush, seconds)

    def close(self, seconds: float = 5) -> bool:
        """Flushes and ends for good; True when nothing is left. What is on disk is left to the next process."""
        lifecycle.dismiss(self)
        return self._worker_here().stop(seconds)

    async def aclose(self, seconds: float = 5) -> bool:
        """The same without blocking the event loop."""
        return await _in_thread(self.close, seconds)

    def stats(self) -> Stats:
        """What became of the events that this process recorded."""
        return self._worker_here().stats()

    def forked(self) -> None:
        """In a forked child, by itself: the queues and the thread are the parent's, the child has its own."""
        worker, self._worker, self._making = self._worker, None, threading.Lock()
        if worker:
            worker.abandon()

    def exiting(self) -> None:
        """At the end of the interpreter, by itself: closes within `exit_seconds`."""
        self.close(self._settings.exit_seconds)

    def _put(self, event: Outgoing) -> None:
        worker = self._worker or self._worker_here()
        try:
            line = encode_line(event)
        except UnfitEventError as error:
            worker.drop()
            cause = error.__cause__
            self._notes.warn(
                "event_unfit", key=event.type, level=logging.ERROR, type=event.type, why=error, cause=cause
            )
            return
        if not worker.put(line):
            self._notes.warn("event_dropped", type=event.type, dropped=worker.stats().dropped)

    def _worker_here(self) -> Worker:
        with self._making:
            if self._worker is None:
                self._worker = Worker(self._settings, self._notes)
                lifecycle.enrol(self)
            return self._worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


async def _in_thread(wait: Callable[[float], bool], seconds: float) -> bool:
    import asyncio  # an async app has it loaded; others need not wait for it

    return await asyncio.to_thread(wait, seconds)
