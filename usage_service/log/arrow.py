"""The log as Arrow record batches, read by PostgreSQL's binary COPY, made in a thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from usage_service.log.reading import LogFilter
from usage_service.queries import query
from usage_service.shared.threads import each, in_turn

if TYPE_CHECKING:
    from adbc_driver_postgresql.dbapi import Connection, Cursor

RANGE_POSITIONS = 10_000  # about 2 MB: PostgreSQL has sent a range before the reader has read it
STATEMENT_MILLISECONDS = "30000"
BOUNDS = {"connect_timeout": "5", "keepalives_idle": "10", "keepalives_interval": "5", "tcp_user_timeout": "30000"}
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # Arrow columnar format, IPC streaming format

# Ids are as PostgreSQL sends them, 16 bytes: text would cost 40 bytes more an id, and a sixth of the reading speed.
FIELDS: list[tuple[str, pa.DataType]] = [
    ("position", pa.int64()),
    ("event_id", pa.uuid()),
    ("type", pa.string()),
    ("schema_version", pa.int16()),
    ("occurred_at", pa.timestamp("us", tz="UTC")),
    ("recorded_at", pa.timestamp("us", tz="UTC")),
    ("visitor", pa.uuid()),
    ("product", pa.string()),
    ("channel", pa.string()),
    ("probe", pa.string()),
    ("source", pa.string()),
    ("data", pa.string()),
    ("digest", pa.uuid()),
    ("late", pa.bool_()),
]
SCHEMA = pa.schema(FIELDS)


def read_batches(
    url: str, role: str | None, after: int, upto: int, only: LogFilter, limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Read record batches of SCHEMA from `after` (excluded) to `upto`, or of `limit` events. Blocks."""
    with _connected(url) as connection:
        while after < upto and limit != 0:
            range_end = min(after + RANGE_POSITIONS, upto)
            with _transaction(connection, role) as cursor:
                cursor.execute(query("log", "choose"), only.settings(after, range_end, limit))
                cursor.fetchall()
                cursor.execute(query("log", f"{only.name}columns"))
                for batch in cursor.fetch_record_batch():
                    limit = None if limit is None else limit - batch.num_rows
                    yield pa.RecordBatch.from_arrays([_plain(column) for column in batch.columns], schema=SCHEMA)
            after = range_end


def read_end(url: str, role: str | None) -> int:
    """Read the last position of the log. Blocks."""
    return _read_position(url, role, "end")


def read_begin(url: str, role: str | None) -> int:
    """Read the first position from which on the log holds every event. Blocks."""
    return _read_position(url, role, "begin")


def _read_position(url: str, role: str | None, which: str) -> int:
    [(position,)] = read_rows(url, role, query("log", which), [])
    return cast(int, position)


def read_rows(url: str, role: str | None, statement: str, values: list[object]) -> list[tuple[Any, ...]]:
    """Read the rows of a statement by the same way as the log. Blocks."""
    with _connected(url) as connection, _transaction(connection, role) as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def _plain(column: pa.Array[Any]) -> pa.Array[Any]:
    """Return a column of Arrow's JSON type as text, because few readers know that type."""
    return column.storage if isinstance(column, pa.ExtensionArray) and isinstance(column.type, pa.JsonType) else column


def _connected(url: str) -> Connection:
    import adbc_driver_postgresql.dbapi  # not at the server's start: loading it takes as long as all the rest

    parts = urlsplit(url)
    parameters = urlencode(dict(parse_qsl(parts.query)) | BOUNDS, quote_via=quote)
    return adbc_driver_postgresql.dbapi.connect(urlunsplit(parts._replace(query=parameters)), autocommit=True)


@contextmanager
def _transaction(connection: Connection, role: str | None) -> Iterator[Cursor]:
    """Open a transaction with the role and the bounds of a reader; none is open before and after it."""
    connection.adbc_connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute(query("log", "bound"), [role or "", STATEMENT_MILLISECONDS])
        cursor.fetchall()
        yield cursor
    connection.adbc_connection.set_autocommit(True)


async def stream_batches(batches: Iterator[pa.RecordBatch]) -> AsyncGenerator[bytes, None]:
    """Write the batches as an Arrow IPC stream; each is made in a thread, while the one before it is sent."""
    yield SCHEMA.serialize().to_pybytes()
    written = each(lambda batch: batch.serialize().to_pybytes(), batches)
    async with aclosing(in_turn(written, "log as Arrow")) as messages:
        async for message in messages:
            yield message
    yield END_OF_STREAM
