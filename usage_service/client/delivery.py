"""Delivery of a batch: tries again what may succeed, splits what is refused whole, counts each event's outcome."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from usage_service.client.delivery_stats import DeliveryStats
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.client.sender import Item, ItemError, MisconfiguredError, NotTakenError, Sender, TryAgainError

FIRST_WAIT = 0.1
_random = random.SystemRandom()  # not the app's, which may be seeded or watched; forks do not draw alike


class StoppedError(Exception):
    """The process ends before the batch was answered; the next process sends what is on disk."""


class Delivery:
    """Sends batches through one sender.

    `pause(seconds, patient)` waits between two tries, or raises StoppedError; a flush cuts a wait short unless it is
    patient.
    """

    def __init__(
        self,
        sender: Sender,
        longest_wait: float,
        stats: DeliveryStats,
        log: RateLimitedLog,
        pause: Callable[[float, bool], None],
    ) -> None:
        self._sender = sender
        self._longest_wait = longest_wait
        self._stats = stats
        self._log = log
        self._pause = pause

    def deliver(self, lines: list[bytes]) -> None:
        """Send the events and return once each is recorded or refused. Raise StoppedError when the process ends."""
        parts = [lines] if lines else []
        while parts:
            part = parts.pop()
            try:
                self._count(self._until_answered(part))
            except NotTakenError as error:
                half = len(part) // 2
                if half:
                    parts += [part[half:], part[:half]]
                else:
                    self._refuse(str(error), "request", None)

    def _until_answered(self, lines: list[bytes]) -> list[Item]:
        tries = 0
        while True:
            try:
                return self._sender.post(lines)
            except TryAgainError as error:
                self._warn(error, len(lines))
                self._stats.retries += 1
                self._pause(self._wait(error, tries), error.after is not None)
                tries += 1

    def _wait(self, error: TryAgainError, tries: int) -> float:
        if error.after is not None:
            return error.after + _random.uniform(0, min(1.0, error.after))
        if isinstance(error, MisconfiguredError):
            return _random.uniform(self._longest_wait / 2, self._longest_wait)
        # Exponential back-off with full jitter, so that clients which failed together do not come back together.
        return _random.uniform(0, min(self._longest_wait, FIRST_WAIT * 2 ** min(tries, 20)))

    def _warn(self, error: TryAgainError, events: int) -> None:
        if isinstance(error, MisconfiguredError):
            self._log.warn(
                "usage_service_refuses_us", every=3600, level=logging.ERROR, why=error, check="URL and TOKEN"
            )
        else:
            self._log.warn("events_wait", why=error, events=events)

    def _count(self, items: list[Item]) -> None:
        for item in items:
            if item.status == "recorded":
                self._stats.sent += 1
            elif item.status == "duplicate":
                self._stats.duplicates += 1
            else:
                error = item.error or ItemError(item.status)
                self._refuse(error.detail, _field(error.pointer), item.event_id)

    def _refuse(self, why: str, field: str, event_id: str | None) -> None:
        self._stats.refused += 1
        self._log.warn("event_refused", key=field, field=field, why=why, event_id=event_id)


def _field(pointer: str | None) -> str:
    """Return the JSON pointer within the event: without the event's place in the request."""
    return "/" + (pointer or "").lstrip("/").partition("/")[2]
