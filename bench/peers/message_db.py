"""message-db, an event store in functions of PostgreSQL: measured where MESSAGE_DB names the folder of its SQL.

That is `package/database` of what `npm pack @eventide/message-db` fetches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg

from bench.stack import psql

# Its installer needs an extension for gen_random_uuid(), which PostgreSQL has by itself since version 13.
PARTS = ("schema", "types", "tables", "functions", "indexes")
SET_UP = "SET search_path = message_store, public; SET check_function_bodies = off"
WRITE = "SELECT message_store.write_message(%s, %s, %s, %s)"


class Message(NamedTuple):
    """The arguments of write_message(): each visitor's events are a stream."""

    event_id: str
    stream: str
    type: str
    data: str


def open_message_db(url: str) -> Callable[[], Callable[[list[Any]], object]] | None:
    """Install it into an empty database, and return a function that connects. None when it is not there."""
    folder = os.environ.get("MESSAGE_DB")
    if folder is None:
        return None
    files = [path for part in PARTS for path in sorted(Path(folder, part).glob("*.sql"))]
    psql(url, SET_UP, *(f"\\i {path.resolve()}" for path in files))

    def connect() -> Callable[[list[Message]], object]:
        connection = psycopg.connect(url, options="-c search_path=message_store,public")

        def insert(batch: list[Message]) -> None:
            """Write the messages in one transaction, without waiting for each answer before the next is sent."""
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(WRITE, batch)

        return insert

    return connect


def message_of(event: bytes) -> Message:
    """Return an event as write_message() takes it, its whole content as data."""
    fields = msgspec.json.decode(event)
    return Message(fields["event_id"], f"visitor-{fields['visitor']}", fields["type"], event.decode())
