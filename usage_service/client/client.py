"""UsageClient, which records an app's events, and what clients do when the process forks or ends."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from usage_service.client.delivery_stats import DeliveryStats, Stats
from usage_service.client.meaning import as_data, as_instant, as_text
from usage_service.client.outgoing import Outgoing, WrongEventError, check_line, encode_line, new_event_id
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.client.settings import Settings, token_or_variable
from usage_service.client.worker import Worker

MIB = 1024 * 1024

# The clients that have been used and are not closed: told of forks and of the interpreter's end, and kept alive.
_in_use: set[UsageClient] = set()


class UsageClient:
    """Records events and sends them in the background, each exactly once as far as the service is concerned.

    With `spool_dir`, a directory for this app's processes only, an event is on disk when `record` returns and outlives
    the process; with `durable` it is synced within about a second, and outlives the machine. Without `spool_dir` an
    event is in memory. Events that fit neither on disk (`max_spool_bytes` for the whole directory) nor in memory
    (`max_queue_events`) are dropped, the newest first, counted and logged. Waits between tries grow to `retry_seconds`.
    `token` has the scope `events`; without it the environment variable USAGE_SERVICE_TOKEN has it. `source` is sent to
    the service in the User-Agent. With `strict`, for development and tests, `record` raises WrongEventError for an
    event that the service would refuse; else such an event is logged and counted. Make one client in each process, or
    one before forking; any thread may use it. Raises ValueError for arguments that cannot work.
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
        strict: bool = False,
    ) -> None:
        self._settings = Settings(
            url=url,
            token=token_or_variable(token),
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
        self._strict = strict
        self._log = RateLimitedLog()
        self._worker_lock = threading.Lock()
        self._worker: Worker | None = None

    def record(
        self,
        kind: str,
        /,
        *,
        visitor: str | int | UUID | None = None,
        product: str | int | UUID | None = None,
        channel: str | int | UUID | None = None,
        probe: str | int | UUID | None = None,
        data: Mapping[str, object] | None = None,
        occurred_at: datetime | date | str | None = None,
        event_id: UUID | str | None = None,
    ) -> str:
        """Record an event of the type `kind` and return its id; never wait for the service.

        What can mean one thing only is taken: an integer or a UUID for a text, 0 or 1 for a flag, a day for its
        beginning, a time without a zone as local. An event recorded again under its `event_id` is stored once. Never
        raise, but WrongEventError if the client is strict.
        """
        chosen = str(new_event_id())
        try:
            chosen = as_text("event_id", event_id) or chosen
            event = Outgoing(
                event_id=chosen,
                type=as_text("type", kind) or "",
                occurred_at=as_instant(occurred_at),
                visitor=as_text("visitor", visitor),
                product=as_text("product", product),
                channel=as_text("channel", channel),
                probe=as_text("probe", probe),
                data=as_data(kind, data),
            )
            line = encode_line(event)
            if self._strict:
                check_line(line)
        except WrongEventError as error:
            self._drop(kind, error)
        except Exception as error:  # of an object of the app's own, whose use may run any code of it
            wrong = WrongEventError(f"a value cannot be read: {type(error).__name__}")
            self._drop(kind, wrong)
        else:
            self._put(kind, line)
        return chosen

    def flush(self, seconds: float = 5) -> bool:
        """Send at once, and return True when each event recorded before is settled, or False when the time is up."""
        worker = self._worker
        return worker.flush(seconds) if worker else True

    async def aflush(self, seconds: float = 5) -> bool:
        """Flush as `flush` does, without blocking the event loop."""
        return await _in_thread(self.flush, seconds)

    def close(self, seconds: float = 5) -> bool:
        """Flush, end for good, and return whether nothing is left; the next process sends what is left on disk."""
        is_settled = self._worker_here().stop(seconds)
        _in_use.discard(self)  # last: a worker that is made for this counts as use, and forks meanwhile have to be told
        return is_settled

    async def aclose(self, seconds: float = 5) -> bool:
        """Close as `close` does, without blocking the event loop."""
        return await _in_thread(self.close, seconds)

    def stats(self) -> Stats:
        """Return how many events of this process were sent, refused, dropped and so on."""
        worker = self._worker
        return worker.stats() if worker else DeliveryStats().snapshot(0, 0)

    def forked(self) -> None:
        """Give up the parent's queues and thread; called in a forked child, which makes its own."""
        worker, self._worker, self._worker_lock = self._worker, None, threading.Lock()
        if worker:
            worker.abandon()

    def exiting(self) -> None:
        """Close within `exit_seconds`; called at the end of the interpreter."""
        self.close(self._settings.exit_seconds)

    def _put(self, kind: str, line: bytes) -> None:
        try:
            worker = self._worker or self._worker_here()
            if not worker.put(line):
                self._log.warn("event_dropped", type=kind, dropped=worker.stats().dropped)
        except Exception as error:  # a bug of ours is not to fail a request of the app
            self._log.warn("recording_failed", level=logging.ERROR, type=kind, error=type(error).__name__)

    def _drop(self, kind: object, error: WrongEventError) -> None:
        worker = self._worker or self._worker_here()
        worker.drop(error)
        name = kind[:64] if isinstance(kind, str) else type(kind).__name__
        if self._strict:
            raise WrongEventError(f"{name}: {error}", is_too_long=error.is_too_long) from error
        self._log.warn("event_wrong", key=name, level=logging.ERROR, type=name, why=error)

    def _worker_here(self) -> Worker:
        with self._worker_lock:
            if self._worker is None:
                self._worker = Worker(self._settings, self._log)
                _in_use.add(self)
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


def _forked() -> None:
    for client in list(_in_use):
        client.forked()


def _exiting() -> None:
    for client in list(_in_use):
        client.exiting()


os.register_at_fork(after_in_child=_forked)
atexit.register(_exiting)
