"""Event stores of others, each called as its own client calls it, from callers in threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from bench.events import make_events
from bench.numbers import Rate
from bench.peers.event_recorder import open_recorder, stored_event
from bench.peers.message_db import message_of, open_message_db
from bench.peers.umadb import serve_umadb, umadb_event
from bench.processor_time import Clock
from bench.stack import BenchError, Stack

END_SECONDS = 60
Insert = Callable[[list[Any]], object]


@dataclass(frozen=True)
class EventStore:
    """An event store that takes batches of events, made of the same JSON as ours."""

    name: str
    programs: dict[str, int]  # whose processor time counts, beside that of the callers in this process
    make: Callable[[bytes], Any]
    connect: Callable[[], Insert]  # for one caller
    most_a_second: int  # events that are made before
    takes_again: bool = False  # the same events, because it does not know repeats


@contextmanager
def event_stores(stack: Stack, name: str) -> Iterator[dict[str, EventStore]]:
    """Open the event stores that are installed, those on PostgreSQL in databases of the name."""
    postgres = {"PostgreSQL": stack.postgres_pid}
    with ExitStack() as exits:
        opened = {}
        if recorder := open_recorder(stack.database(f"{name}_eventsourcing")):
            opened["eventsourcing"] = EventStore(
                "eventsourcing, insert_events", postgres, stored_event, lambda: recorder.insert_events, 40_000
            )
        if connect := open_message_db(stack.database(f"{name}_message_db")):
            opened["message-db"] = EventStore("message-db, write_message", postgres, message_of, connect, 20_000)
        if served := exits.enter_context(serve_umadb(stack.directory / f"{name}.umadb")):
            pid, client = served
            opened["UmaDB"] = EventStore("UmaDB, append", {"UmaDB": pid}, umadb_event, client, 20_000, takes_again=True)
        yield opened


def insert_rate(store: EventStore, batch: int, callers: int, seconds: float, seed: str) -> Rate:
    """Return the events a second that an event store takes, `batch` events a call, and its processor time."""
    made = [store.make(event) for event in islice(make_events(seed), int(store.most_a_second * seconds))]
    batches = [made[start : start + batch] for start in range(0, len(made) - batch + 1, batch)]
    inserting = _Inserting(iter(cycle(batches) if store.takes_again else batches), time.perf_counter() + seconds)
    threads = [threading.Thread(target=inserting.run, args=[store.connect()], daemon=True) for _ in range(callers)]
    clock, began = Clock(store.programs | {"callers": os.getpid()}), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + END_SECONDS)
    took = time.perf_counter() - began
    if inserting.failure or any(thread.is_alive() for thread in threads):
        raise BenchError(f"{store.name}: {inserting.failure or 'it did not answer'!r}")
    return Rate(events_a_second=inserting.calls * batch / took, cores=clock.cores())


class _Inserting:
    """Callers that take batches from one iterator until the time is over."""

    def __init__(self, batches: Iterator[list[Any]], until: float) -> None:
        self._batches = batches
        self._until = until
        self._lock = threading.Lock()
        self.calls = 0
        self.failure: Exception | None = None

    def run(self, insert: Insert) -> None:
        while time.perf_counter() < self._until and not self.failure:
            with self._lock:
                batch = next(self._batches, None)
            if batch is None:
                return
            try:
                insert(batch)
            except Exception as error:
                self.failure = error
                raise
            with self._lock:
                self.calls += 1
