"""Peer `eventsourcing`, an event store in Python, called in process; None when it is not installed."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from bench.events import make_events

if TYPE_CHECKING:
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder

INSERTED_AT_ONCE = 1_000
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


def insert_events(recorder: PostgresApplicationRecorder, number: int, seed: str) -> None:
    """Fill the peer's log."""
    events = [stored_event(event) for event in islice(make_events(seed), number)]
    for start in range(0, number, INSERTED_AT_ONCE):
        recorder.insert_events(events[start : start + INSERTED_AT_ONCE])


def stored_event(event: bytes) -> StoredEvent:
    """Return an event as the peer takes it, its whole content as state."""
    from eventsourcing.persistence import StoredEvent

    return StoredEvent(UUID(msgspec.json.decode(event)["event_id"]), 1, "bench:Event", event)


def read_rate(recorder: PostgresApplicationRecorder, events: int) -> float:
    """Return the events a second when reading `events` of the notification log, a page at a time."""
    started, read = time.perf_counter(), 0
    while read < events and (page := recorder.select_notifications(read + 1, PAGE)):
        read += len(page)
    return read / (time.perf_counter() - started)
