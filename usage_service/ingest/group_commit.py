"""Group commit: requests that arrive together share one transaction, and none can fail or delay the others."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, get_args

import asyncpg
import structlog

from usage_service.ingest.appending import REFUSED, Appended, Outcome, Record, append
from usage_service.ingest.recording_health import RecordingHealth
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool

MOST_EVENTS_A_COMMIT = 2_000
ERASURE = "visitor_erased"

CHANNEL = "events_appended"
PAUSE_SECONDS = 0.01  # a commit that notifies takes a lock on the whole database: fewer of them than commits of events

log = structlog.get_logger(__name__)


class QueueFullError(Exception):
    """More events wait to be recorded than the service holds; try again later."""


class LogUnavailableError(Exception):
    """The database did not confirm the events; they may or may not be recorded. Sending them again is safe."""


class RefusedByDatabaseError(Exception):
    """The database refuses this event; the message says why."""


Answer = Appended | RefusedByDatabaseError
# What becomes of a valid event: besides the outcomes of appending it, the database refused it alone, did not confirm
# it, or there was no place for it in the queue.
Fate = Literal[Outcome, "refused", "unavailable", "queue_full"]


class _Request:
    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.answer: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()


class Ingest:
    """The queue of events that wait to be appended. `run` commits them; `submit` waits until its events are durable."""

    def __init__(self, pool: Pool, most_events: int, committed: Callable[[], None]) -> None:
        self._pool = pool
        self.health = RecordingHealth(pool)
        self.most_events = most_events
        self._committed = committed
        self._waiting: deque[_Request] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self.queued_events = 0
        self.fates: Counter[Fate] = Counter(dict.fromkeys(get_args(Fate), 0))  # of all events so far

    async def submit(self, records: Sequence[Record]) -> list[Answer]:
        """Return an answer for each record once all are committed. Raise QueueFullError or LogUnavailableError."""
        return await self.enqueue(records)

    def enqueue(self, records: Sequence[Record]) -> asyncio.Future[list[Answer]]:
        """Queue the records without waiting: they are committed even if nobody awaits the future of the answers."""
        request = _Request(records)
        if not records:  # there is nothing to commit
            request.answer.set_result([])
            return request.answer
        if self._ended:
            raise LogUnavailableError
        if self.queued_events + len(records) > self.most_events:
            self.fates["queue_full"] += len(records)
            raise QueueFullError
        self._waiting.append(request)
        self.queued_events += len(records)
        self._wake.set()
        return request.answer

    async def run(self) -> None:
        """Commit the queued events until cancelled, and answer those still queued then with LogUnavailableError."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._take():
                    await self._commit(batch)
        finally:
            self._ended = True
            _fail_all(self._waiting)

    def _take(self) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].records) <= MOST_EVENTS_A_COMMIT):
            request = self._waiting.popleft()
            size += len(request.records)
            if not request.answer.done():  # else its client is gone
                batch.append(request)
        self.queued_events -= size
        return batch

    async def _commit(self, batch: list[_Request]) -> None:
        records = [record for request in batch for record in request.records]
        try:
            answers = [answer for part in _parts(records) for answer in await self._append(part)]
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.error("log_unavailable", error=repr(error), events=len(records))
            self.health.fail(error)
            self.fates["unavailable"] += len(records)
            _fail_all(batch)
            return
        except BaseException:
            _fail_all(batch)
            raise
        self._committed()
        self.health.succeed()
        self.fates.update(answer.outcome if isinstance(answer, Appended) else "refused" for answer in answers)
        answered = iter(answers)
        for request in batch:
            of_request = [next(answered) for _ in request.records]
            if not request.answer.done():
                request.answer.set_result(of_request)

    async def _append(self, records: Sequence[Record]) -> list[Answer]:
        """Append records; when the database refuses them, append each half, so that only the wrong event is refused."""
        try:
            async with self._pool.acquire(timeout=5) as connection:
                return list(await append(connection, records))
        except REFUSED as error:
            if len(records) == 1:
                log.warning("event_refused_by_database", event_id=str(records[0].event_id), error=repr(error))
                return [RefusedByDatabaseError(f"the database refuses it: {error.args[0]}")]
        half = len(records) // 2
        return await self._append(records[:half]) + await self._append(records[half:])


def _parts(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut after erasures: in one call a person has one pseudonym, and after an erasure it has to be a new one."""
    start = 0
    for index in range(1, len(records)):
        if records[index - 1].type == ERASURE != records[index].type:
            yield records[start:index]
            start = index
    yield records[start:]


def _fail_all(requests: Iterable[_Request]) -> None:
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(LogUnavailableError())


class Announcer:
    """Sends a notification of CHANNEL after `announce`, one for several calls; listeners poll in case it is lost."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grown = asyncio.Event()

    def announce(self) -> None:
        """Have listeners notified that events were committed."""
        self._grown.set()

    async def run(self) -> None:
        """Notify listeners until cancelled."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                async with self._pool.acquire(timeout=5) as connection:
                    await connection.execute(query("log", "announce"))
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:  # such as a full queue of notifications
                log.warning("hint_not_sent", error=repr(error))
            await asyncio.sleep(PAUSE_SECONDS)
