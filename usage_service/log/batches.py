"""Record batches of the log: read as events one by one, and in the current schema versions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from usage_service.events import EVENT_TYPES
from usage_service.log.stored_events import UPCASTS, StoredEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def events_of(batch: pa.RecordBatch) -> Iterator[StoredEvent]:
    """The rows of a batch of `columns.SCHEMA` as events."""
    return map(StoredEvent, *map(_values, batch.schema.names, batch.columns))


def _values(name: str, column: pa.Array[Any]) -> list[Any]:
    """A column in Python. Arrow's own conversion of ids and times takes several times as long."""
    if isinstance(column, pa.ExtensionArray):
        return [UUID(bytes=value) if value else None for value in column.storage.cast(pa.binary()).to_pylist()]
    if pa.types.is_timestamp(column.type):
        return [EPOCH + timedelta(microseconds=value or 0) for value in column.cast(pa.int64()).to_pylist()]
    if name == "data":
        return [msgspec.Raw(str(text).encode()) for text in column.to_pylist()]
    return column.to_pylist()


def upcast(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with `data` and `schema_version` of older events as of today; itself where there are none."""
    for kind, version in sorted(UPCASTS):
        of_kind = pc.equal(batch.column("type"), pa.scalar(kind))
        old = pc.and_(of_kind, pc.equal(batch.column("schema_version"), pa.scalar(version, pa.int16())))
        if old.true_count:
            batch = _next_version(batch, old, kind, version)
    return batch


def _next_version(batch: pa.RecordBatch, old: pa.BooleanArray, kind: str, version: int) -> pa.RecordBatch:
    """In the order of versions each makes the next one, up to the type's own."""
    if version >= EVENT_TYPES[kind].schema_version:
        return batch
    change = UPCASTS[kind, version]
    texts = [json.dumps(change(json.loads(str(text)))) for text in batch.column("data").filter(old).to_pylist()]
    batch = _replaced(batch, "data", old, texts)
    return _replaced(batch, "schema_version", old, [version + 1] * len(texts))


def _replaced(batch: pa.RecordBatch, name: str, mask: pa.BooleanArray, values: Iterable[object]) -> pa.RecordBatch:
    one = batch.schema.field(name)
    column = pc.replace_with_mask(batch.column(name), mask, pa.array(values, one.type))
    return batch.set_column(batch.schema.get_field_index(name), one, column)
