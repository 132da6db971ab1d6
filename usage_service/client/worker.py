"""The worker of a client: the queues of one process, the thread that empties them, and one that syncs them."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

from usage_service.client.delivery import Delivery, StoppedError
from usage_service.client.delivery_stats import DeliveryStats, Stats
from usage_service.client.outgoing import WrongEventError
from usage_service.client.queues import MemoryQueue, OwnQueue, Queue
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.client.sender import Sender
from usage_service.client.settings import Settings
from usage_service.client.spool import Orphans, Spool

IDLE_SECONDS = 5.0  # the longest sleep of an idle thread, after which it looks for orphans
SYNC_SECONDS = 1.0


class Worker:
    """Takes events from any thread; a daemon thread of its own, started with the first event, sends them.

    Another syncs what is to be durable, because a request may take longer than an event may wait for that.
    """

    def __init__(self, settings: Settings, log: RateLimitedLog) -> None:
        self._settings = settings
        self._log = log
        self._changed = threading.Condition()  # re-entrant: a signal handler may record an event, too
        self._stats = DeliveryStats()
        directory = settings.spool_dir
        self._spool = Spool(directory, settings.max_spool_bytes, log) if directory else None
        self._memory = MemoryQueue(settings.max_queue_events)
        self._orphans = Orphans(directory) if directory else None
        self._sender = Sender(settings.url, settings.token, settings.timeout, settings.source)
        self._delivery = Delivery(self._sender, settings.retry_seconds, self._stats, log, self._pause)
        # Held while files are synced, and while one may be closed; taken before the lock that recording waits for.
        self._syncing = threading.Lock()
        self._to_start: list[Callable[[], None]] = [self._keep_synced] if settings.durable and directory else []
        self._to_start.append(self._run)
        self._threads: list[threading.Thread] = []
        self._stopping = self._urgent = False

    def put(self, line: bytes) -> bool:
        """Add an event, and return False when it is dropped because all is full or the worker has stopped."""
        with self._changed:
            if self._stopping:
                self._stats.dropped_closed += 1
                return False
            if not any(queue.put(line) for queue in self._own):
                self._stats.dropped_full += 1
                return False
            self._stats.recorded += 1
            if self._to_start:
                self._start()
            if self._pending in (1, self._settings.batch_events):  # else the thread is awake or waits for more
                self._changed.notify_all()
            return True

    def drop(self, error: WrongEventError) -> None:
        """Count an event that could not be put."""
        with self._changed:
            if error.is_too_long:
                self._stats.dropped_too_long += 1
            else:
                self._stats.dropped_wrong += 1

    def flush(self, timeout: float) -> bool:
        """Wait until the events put before are settled, and return whether they are within `timeout` seconds."""
        with self._changed:
            targets = [(queue, queue.entered) for queue in self._own]
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: all(queue.left >= target for queue, target in targets), timeout)

    def stop(self, timeout: float) -> bool:
        """Flush, end the threads, and return whether nothing is left; the next process sends what is on disk."""
        deadline = time.monotonic() + timeout
        flushed = self.flush(timeout)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        if lost := self._memory.entered - self._memory.left:
            self._log.warn("events_lost_at_exit", level=logging.ERROR, events=lost)
        return flushed

    def abandon(self) -> None:
        """Close the parent's files in a forked child, without a change to them."""
        for queue in (self._spool, self._orphans):
            if queue:
                queue.abandon()

    def stats(self) -> Stats:
        """Return how many events were sent, refused, dropped and so on."""
        with self._changed:
            on_disk = self._spool.entered - self._spool.left if self._spool else 0
            adopted = self._orphans.pending if self._orphans else 0
            return self._stats.snapshot(self._memory.entered - self._memory.left, on_disk + adopted)

    @property
    def _own(self) -> list[OwnQueue]:
        return [self._spool, self._memory] if self._spool else [self._memory]

    @property
    def _pending(self) -> int:
        return sum(queue.entered - queue.left for queue in self._own)

    def _start(self) -> None:
        while self._to_start:
            run = self._to_start.pop()
            thread = threading.Thread(target=run, name="usage-client", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads: tried again with the next event
                self._to_start.append(run)
                self._log.warn("sender_not_started", error=error)
                return
            self._threads.append(thread)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except StoppedError:
            pass
        finally:
            self._close()

    def _turn(self) -> None:
        try:
            if not self._send_one_each():
                self._await_events()
        except StoppedError:
            raise
        except Exception as error:
            # The disk cannot be read, or there is a bug. Without the error's message, which may quote events.
            where = traceback.format_tb(error.__traceback__)[-1].strip()
            self._log.warn("sending_failed", level=logging.ERROR, error=type(error).__name__, where=where)
            self._pause(self._settings.retry_seconds, False)

    def _send_one_each(self) -> bool:
        """Send a batch of each queue, so that none starves, and return whether there was any."""
        queues: list[Queue] = [*self._own, *([self._orphans] if self._orphans else [])]
        sent = [self._send(queue) for queue in queues]
        return True in sent

    def _send(self, queue: Queue) -> bool:
        batch = queue.take(self._settings.batch_events)
        if batch is None:
            return False
        self._delivery.deliver(batch.lines)
        with self._syncing, self._changed:
            queue.settle(batch)
            self._stats.unreadable += batch.unreadable
            self._changed.notify_all()
        return True

    def _await_events(self) -> None:
        """Wait for an event, then for `linger_seconds` or a full batch."""
        with self._changed:
            self._changed.wait_for(lambda: self._hurried or self._pending > 0, IDLE_SECONDS)
            if self._pending:
                full = self._settings.batch_events
                self._changed.wait_for(lambda: self._hurried or self._pending >= full, self._settings.linger_seconds)
            self._urgent = False

    @property
    def _hurried(self) -> bool:
        return self._stopping or self._urgent

    def _pause(self, seconds: float, patient: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or (self._urgent and not patient), seconds)
            if self._stopping:
                raise StoppedError
            if not patient:
                self._urgent = False

    def _keep_synced(self) -> None:
        """Sync what was recorded, each second and at the end, which may come in the middle of a request."""
        stopping = False
        while not stopping:
            with self._changed:
                stopping = self._changed.wait_for(lambda: self._stopping, SYNC_SECONDS)
            with self._syncing:
                self._sync()

    def _sync(self) -> None:
        try:
            if self._settings.durable and self._spool:
                self._spool.sync()
        except OSError as error:
            self._log.warn("spool_not_synced", level=logging.ERROR, why=error.strerror)

    def _close(self) -> None:
        self._sender.close()
        with self._syncing:
            self._sync()
            with self._changed:
                for queue in (self._spool, self._orphans):
                    if queue:
                        queue.close()
