"""Rows as a Parquet file, written a group of rows at a time, so that memory is bounded whatever their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow
from pyarrow.parquet import ParquetWriter

from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError


class ParquetRows:
    """The writing of rows with these columns into a file. Columns that all rows share are given once, as `constants`.

    What was not finished is given up at the end of the context.
    """

    def __init__(
        self, file: BinaryIO, columns: Mapping[str, pyarrow.DataType], constants: Mapping[str, str | None]
    ) -> None:
        self._constants = constants
        self._schema = pyarrow.schema(list(columns.items()))
        self._file = file
        self._writer = ParquetWriter(file, self._schema, compression="zstd")
        self.is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, pyarrow.ArrowException):
            self._writer.close()

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records, each with a value for every column but the constants, as a group of rows.

        Raise a WorkError where they cannot be written.
        """
        with _as_work_errors():
            arrays = [self._column(field, records) for field in self._schema]
            group = pyarrow.record_batch(arrays, schema=self._schema)
            self._writer.write_batch(group, row_group_size=len(records))

    def finish(self) -> BinaryIO:
        """End the file, if it has not ended, and return it. Raise a WorkError where it cannot be written."""
        if not self.is_finished:
            with _as_work_errors():
                self._writer.close()
            self.is_finished = True
        return self._file

    def _column(self, field: pyarrow.Field[Any], records: Sequence[Mapping[str, Any]]) -> pyarrow.Array[Any]:
        if field.name in self._constants:
            values = [self._constants[field.name]] * len(records)
        else:
            values = [record[field.name] for record in records]
        column: pyarrow.Array[Any] = pyarrow.array(values, field.type)
        return column


@contextmanager
def _as_work_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransientWorkError("noTemporaryFile", f"rows cannot be written to a temporary file: {error}") from error
    except (pyarrow.ArrowException, OverflowError, TypeError) as error:
        raise PermanentWorkError("unwritableRows", f"rows cannot be written as Parquet: {error}") from error
