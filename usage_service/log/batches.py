"""Record batches of the log: as events one by one, and in the current schema versions."""

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
    """Return the rows of a batch of `arrow.SCHEMA` as events."""
    return map(StoredEvent, *map(_values, batch.schema.names, batch.columns))


def lines_of(batch: pa.RecordBatch) -> bytes:
    """Return the rows of a batch as the lines that PostgreSQL writes of events, to the byte."""
    columns = [_json_texts(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    keys = [f'"{name}":' for name in batch.schema.names]
    rows = (",".join(map(str.__add__, keys, row)) for row in zip(*columns, strict=True))
    return "".join(f"{{{row}}}\n" for row in rows).encode()


def _json_texts(name: str, column: pa.Array[Any]) -> list[str]:
    """Return the values of a column as JSON, as PostgreSQL writes it."""
    values = _values(name, column)
    if name == "data":
        return [bytes(value).decode() for value in values]
    if pa.types.is_timestamp(column.type):
        return [f'"{_instant(value)}"' for value in values]
    if isinstance(column, pa.ExtensionArray):
        return ["null" if value is None else f'"{value}"' for value in values]
    return [json.dumps(value, ensure_ascii=False) for value in values]


def _instant(value: datetime) -> str:
    text = value.isoformat()
    return text.replace("+00:00", "").rstrip("0") + "+00:00" if value.microsecond else text


def _values(name: str, column: pa.Array[Any]) -> list[Any]:
    """Convert a column to Python; Arrow's own conversion of ids and times takes several times as long."""
    if isinstance(column, pa.ExtensionArray):
        return [UUID(bytes=value) if value else None for value in column.storage.cast(pa.binary()).to_pylist()]
    if pa.types.is_timestamp(column.type):
        return [EPOCH + timedelta(microseconds=value or 0) for value in column.cast(pa.int64()).to_pylist()]
    if name == "data":
        return [msgspec.Raw(str(text).encode()) for text in column.to_pylist()]
    return column.to_pylist()


def upcast(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Bring `data` and `schema_version` of the older events of a batch to the current schema versions."""
    for kind, version in sorted(UPCASTS):
        of_kind = pc.equal(batch.column("type"), pa.scalar(kind))
        old = pc.and_(of_kind, pc.equal(batch.column("schema_version"), pa.scalar(version, pa.int16())))
        if old.true_count:
            batch = _next_version(batch, old, kind, version)
    return batch


def _next_version(batch: pa.RecordBatch, old: pa.BooleanArray, kind: str, version: int) -> pa.RecordBatch:
    """Bring the events `old`, of a type and version, to the next version, if the type has one."""
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
