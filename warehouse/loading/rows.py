"""The rows of a file as a stream of Arrow batches, whose types are those of BigQuery's fields."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.definitions import Resource, invalid, type_of
from warehouse.errors import BigQueryError
from warehouse.schema import LENGTH_WIDTH, USUAL_WIDTH, WIDTHS, Type

if TYPE_CHECKING:
    from collections.abc import Iterator

ARROW_TYPES: dict[str, pa.DataType] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "STRING": pa.string(),
    "BOOL": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "DATETIME": pa.timestamp("us"),
    "BYTES": pa.binary(),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal128(38, 9),
}


@dataclass
class Rows:
    """The rows of a file and their fields; `failure` is the error that ended the stream, which DuckDB would not tell.

    `bytes` are the logical bytes of what has been read, as BigQuery counts them.
    """

    fields: list[Resource]
    batches: Iterator[pa.RecordBatch]
    failure: BigQueryError | None = field(default=None, init=False)
    bytes: int = field(default=0, init=False)

    def reader(self) -> pa.RecordBatchReader:
        """Return the stream for DuckDB to read, once."""
        return pa.RecordBatchReader.from_batches(arrow_schema(self.fields), self._watched())

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            kinds = type_of(self.fields).fields.values()
            for batch in self.batches:
                self.bytes += sum(_logical_bytes(*column) for column in zip(batch.columns, kinds, strict=True))
                yield batch
        except BigQueryError as error:
            self.failure = error
            raise
        except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
            self.failure = unreadable(str(error))
            raise


def arrow_schema(fields: list[Resource]) -> pa.Schema:
    """Return the fields as columns of Arrow."""
    return pa.schema([pa.field(name, _arrow_type(kind)) for name, kind in type_of(fields).fields.items()])


def _arrow_type(kind: Type) -> pa.DataType:
    if kind.name == "STRUCT":
        found: pa.DataType = pa.struct([pa.field(name, _arrow_type(child)) for name, child in kind.fields.items()])
    else:
        found = ARROW_TYPES[kind.name]
    return pa.list_(found) if kind.repeated else found


def _logical_bytes(array: pa.Array[Any], kind: Type) -> int:
    if isinstance(array, pa.ListArray):
        return _logical_bytes(array.flatten(), Type(kind.name, fields=kind.fields))
    if isinstance(array, pa.StructArray):
        return sum(_logical_bytes(*child) for child in zip(array.flatten(), kind.fields.values(), strict=True))
    valid = len(array) - array.null_count
    if isinstance(array, pa.StringArray | pa.BinaryArray):
        return valid * LENGTH_WIDTH + int(pc.sum(pc.binary_length(array)).as_py() or 0)
    return valid * WIDTHS.get(kind.name, USUAL_WIDTH)


def unreadable(message: str) -> BigQueryError:
    """Return BigQuery's error for a file that cannot be loaded."""
    return invalid(f"Error while reading data, error message: {message}")
