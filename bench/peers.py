"""Peer `eventsourcing`, an event store in Python, called in process; None when it is not installed."""

from __future__ import annotations

import json
import time
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from bench.events import make_events

if TYPE_CHECKING:
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder

MOST_SINGLE, MOST_BATCHED = 5_000, 40_000
PAGE = 10_000


def open_recorder(url: str) -> PostgresApplicationRecorder | None:
    """Return a recorder whose tables have been created."""
    try:
        from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
    except ImportError:
        return None
    parts = urlsplit(url)
    datastore = PostgresDatastore(
        parts.path[1:], parts.hostname or "", parts.port or 5432, parts.username or "", parts.password or ""
    )
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    return recorder


def insert_rate(recorder: PostgresApplicationRecorder, batch: int, seconds: float, seed: str) -> float:
    """Return the events a second with insert_events, one caller, `batch` events a call."""
    number = int((MOST_SINGLE if batch == 1 else MOST_BATCHED) * seconds)
    batches = iter(_batches(list(islice(make_events(seed), number)), batch))
    started, inserted = time.perf_counter(), 0
    while (now := time.perf_counter()) < started + seconds and (events := next(batches, None)):
        recorder.insert_events(events)
        inserted += len(events)
    return inserted / (now - started)


def insert_events(recorder: PostgresApplicationRecorder, number: int, seed: str) -> None:
    """Fill the peer's log."""
    for batch in _batches(list(islice(make_events(seed), number)), 1_000):
        recorder.insert_events(batch)


def _batches(events: list[bytes], size: int) -> list[list[StoredEvent]]:
    from eventsourcing.persistence import StoredEvent

    stored = [StoredEvent(UUID(json.loads(event)["event_id"]), 1, "bench:Event", event) for event in events]
    return [stored[start : start + size] for start in range(0, len(stored), size)]


def read_rate(recorder: PostgresApplicationRecorder, events: int) -> float:
    """Return the events a second when reading `events` of the notification log, a page at a time."""
    started, read = time.perf_counter(), 0
    while read < events and (page := recorder.select_notifications(read + 1, PAGE)):
        read += len(page)
    return read / (time.perf_counter() - started)
