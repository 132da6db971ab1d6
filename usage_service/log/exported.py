"""Exported logs as sources: Parquet files, and NDJSON files that may be gzipped."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usage_service.log.arrow import SCHEMA
from usage_service.log.errors import LogReadError
from usage_service.log.exports import PARQUET, check_columns
from usage_service.log.reading import LogFilter
from usage_service.log.stored_events import StoredEvent
from usage_service.shared.files import open_file

ROWS_A_BATCH = 10_000
DATA = SCHEMA.get_field_index("data")
_decoder = msgspec.json.Decoder(StoredEvent)


@dataclass(frozen=True)
class ParquetSource:
    """An export to Parquet, also one by earlier versions of this program, whose ids were text."""

    path: Path

    def end(self) -> int:
        """Return the last position in the file."""
        with _errors(self.path), pq.ParquetFile(self.path) as file:
            if not file.metadata.num_rows:
                return 0
            return int(file.read_row_group(file.num_row_groups - 1, ["position"]).column(0)[-1].as_py())

    def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        """Read the events that match from the row groups that hold such positions."""
        with _errors(self.path), pq.ParquetFile(self.path) as file:
            check_columns(file, self.path)
            groups = [number for number in range(file.num_row_groups) if _overlaps(file, number, after, upto)]
            for batch in file.iter_batches(ROWS_A_BATCH, groups, SCHEMA.names):
                yield matching(_current_columns(batch), after, upto, only)


@dataclass(frozen=True)
class LinesSource:
    """An export to NDJSON."""

    path: Path

    def end(self) -> int:
        """Return the last position in the file, which is read to its end for this."""
        last = 0
        with _errors(self.path):
            for events in self._events():
                last = events[-1].position
        return last

    def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
        """Read the events that match."""
        with _errors(self.path):
            for events in self._events():
                if events[0].position > upto:
                    return
                if events[-1].position > after:
                    yield matching(_batch(events), after, upto, only)

    def _events(self) -> Iterator[list[StoredEvent]]:
        with open_file(self.path) as file:
            numbered = enumerate(file.unpacked, 1)
            while lines := list(islice(numbered, ROWS_A_BATCH)):
                yield [self._event(number, line) for number, line in lines]

    def _event(self, number: int, line: bytes) -> StoredEvent:
        try:
            return _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LogReadError(f"{self.path}:{number} is not an event of an exported log: {error}") from None


def exported_source(path: Path) -> ParquetSource | LinesSource:
    """Return the source that a file is by its content, whatever its name. Raise LogReadError."""
    with _errors(path), path.open("rb") as file:
        return ParquetSource(path) if file.read(len(PARQUET)) == PARQUET else LinesSource(path)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise LogReadError(f"{path} cannot be read, or not to its end: {error}") from None


def _overlaps(file: pq.ParquetFile, group: int, after: int, upto: int) -> bool:
    """Return whether a row group may hold positions after `after` up to `upto`: True if it has no statistics."""
    column = file.schema_arrow.names.index("position")
    positions = file.metadata.row_group(group).column(column).statistics
    if positions is None or not positions.has_min_max:
        return True
    return int(str(positions.max)) > after and int(str(positions.min)) <= upto


def _current_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch in SCHEMA; older exports have ids as text."""
    ids = {one.name: _ids(batch.column(one.name)) for one in SCHEMA if one.type == pa.uuid()}
    return pa.RecordBatch.from_arrays([ids.get(name, batch.column(name)) for name in SCHEMA.names], schema=SCHEMA)


def _ids(column: pa.Array[Any]) -> pa.Array[Any]:
    if column.type == pa.uuid():
        return column
    return pa.array([UUID(text).bytes if text else None for text in column.to_pylist()], pa.uuid())


def _batch(events: list[StoredEvent]) -> pa.RecordBatch:
    columns = [list(column) for column in zip(*map(msgspec.structs.astuple, events), strict=True)]
    columns[DATA] = [bytes(text).decode() for text in columns[DATA]]
    arrays = [pa.array(column, one.type) for column, one in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def matching(batch: pa.RecordBatch, after: int, upto: int, only: LogFilter) -> pa.RecordBatch:
    """Return the rows that a reading of the database with this filter would give."""
    chosen = (pc.field("position") > after) & (pc.field("position") <= upto)
    if only.types is not None:
        chosen &= pc.field("type").isin(only.types)
    if only.product is not None:
        chosen &= pc.field("product") == only.product
    if only.visitor is not None:
        chosen &= pc.field("visitor").cast(pa.binary(16)) == pa.scalar(only.visitor.bytes, pa.binary(16))
    if only.since is not None:
        chosen &= pc.field("occurred_at") >= only.since
    if only.until is not None:
        chosen &= pc.field("occurred_at") < only.until
    return batch.filter(chosen)
