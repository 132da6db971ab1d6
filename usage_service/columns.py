"""The log as Arrow: record batches from PostgreSQL's own binary COPY, made in a thread."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import adbc_driver_postgresql.dbapi
import pyarrow as pa

from usage_service.queries import query
from usage_service.reading import LogFilter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SPAN_POSITIONS = 50_000
STATEMENT_MILLISECONDS = 30_000
FIELDS: list[tuple[str, pa.DataType]] = [
    ("position", pa.int64()),
    ("event_id", pa.string()),
    ("type", pa.string()),
    ("schema_version", pa.int16()),
    ("occurred_at", pa.timestamp("us", tz="UTC")),
    ("recorded_at", pa.timestamp("us", tz="UTC")),
    ("visitor", pa.string()),
    ("product", pa.string()),
    ("channel", pa.string()),
    ("probe", pa.string()),
    ("source", pa.string()),
    ("data", pa.string()),
    ("digest", pa.string()),
    ("late", pa.bool_()),
]
SCHEMA = pa.schema(FIELDS)


def read_batches(
    url: str, role: str | None, after: int, upto: int, only: LogFilter, limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Record batches of SCHEMA from `after` (excluded) to `upto`, or of `limit` events. Blocks."""
    with _cursor(url, role) as cursor:
        while after < upto and limit != 0:
            span_end = min(after + SPAN_POSITIONS, upto)
            settings = only.settings(after, span_end, limit)
            cursor.execute(query("log", "chosen"), settings)
            cursor.fetchall()
            cursor.execute(query("log", f"{only.name}columns"))
            for batch in cursor.fetch_record_batch():
                limit = None if limit is None else limit - batch.num_rows
                yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
            after = span_end


@contextmanager
def _cursor(url: str, role: str | None) -> Iterator[adbc_driver_postgresql.dbapi.Cursor]:
    with (
        adbc_driver_postgresql.dbapi.connect(_with_options(url, role), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _with_options(url: str, role: str | None) -> str:
    """The URL with the role and bounds of a session, as libpq takes them."""
    parts = urlsplit(url)
    options = f"-c statement_timeout={STATEMENT_MILLISECONDS} -c timezone=UTC" + (f" -c role={role}" if role else "")
    parameters = dict(parse_qsl(parts.query)) | {"options": options, "connect_timeout": "5"}
    return urlunsplit(parts._replace(query=urlencode(parameters, quote_via=quote)))


class _Sink(io.RawIOBase):
    """A file that an Arrow writer writes to and that is emptied as it goes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, piece: ReadableBuffer) -> int:
        """Keeps a copy until it is taken."""
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        """What was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def stream_batches(batches: Iterator[pa.RecordBatch]) -> AsyncIterator[bytes]:
    """An Arrow IPC stream of the batches, each made in a thread when the reader is ready for it."""
    sink = _Sink()
    writer = pa.ipc.new_stream(sink, SCHEMA)
    try:
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            writer.write_batch(batch)
            yield sink.taken()
    finally:
        await asyncio.to_thread(_close, batches)
        writer.close()
    yield sink.taken()


def _close(batches: Iterator[pa.RecordBatch]) -> None:
    if isinstance(batches, Generator):
        batches.close()
