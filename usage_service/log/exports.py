"""Exported logs as files: NDJSON (gzipped or not) or Parquet, written whole or not at all, and read back as lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from usage_service.log.arrow import SCHEMA
from usage_service.log.errors import LogReadError
from usage_service.shared.files import written_whole

Format = Literal["ndjson", "parquet"]
ROWS_A_GROUP = 100_000  # of a Parquet file; smaller groups are slower to query
STORED_FIELDS = (b'"position":', b'"recorded_at":', b'"digest":')  # which events to post do not have

PARQUET = b"PAR1"  # how its files begin

Moved = Callable[[int], None]
"""A function that is called with the position that was written last."""


def write_lines(path: Path, pieces: Iterator[bytes], moved: Moved) -> None:
    """Write NDJSON as it comes, gzipped when the name ends in .gz."""
    with written_whole(path) as written, _writer(written, packed=path.name.lower().endswith(".gz")) as file:
        rest = b""
        for piece in pieces:
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                file.write(whole + newline)
                moved(json.loads(whole.rpartition(b"\n")[2])["position"])


@contextmanager
def _writer(written: BinaryIO, *, packed: bool) -> Iterator[BinaryIO]:
    if not packed:
        yield written
        return
    with gzip.GzipFile(fileobj=written, mode="wb", filename="") as file:
        yield cast(BinaryIO, file)


def write_parquet(path: Path, stream: IOBase, moved: Moved) -> None:
    """Write an Arrow IPC stream as Parquet (zstd), a row group at a time."""
    with pa.ipc.open_stream(stream) as batches:
        write_batches(path, batches, moved)


def write_batches(path: Path, batches: Iterable[pa.RecordBatch], moved: Moved) -> None:
    """Write batches of SCHEMA as Parquet (zstd), a row group at a time."""
    with written_whole(path) as written, pq.ParquetWriter(written, SCHEMA, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(group)
            moved(group.column("position")[-1].as_py())


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(batch.num_rows for batch in group) >= ROWS_A_GROUP:
            yield pa.Table.from_batches(group)
            group = []
    if any(batch.num_rows for batch in group):
        yield pa.Table.from_batches(group)


def is_export(head: bytes) -> bool:
    """Return whether a file that begins with `head` is an exported log, rather than events to post."""
    return head.startswith(PARQUET) or any(
        all(field in line for field in STORED_FIELDS) for line in head.split(b"\n", 20)[:20]
    )


def check_columns(file: pq.ParquetFile, name: str | Path) -> None:
    """Raise LogReadError for a Parquet file that is no exported log."""
    if missing := sorted(set(SCHEMA.names) - set(file.schema_arrow.names)):
        raise LogReadError(f"{name} is not an exported log: it has no {', '.join(missing)}")


def parquet_lines(opened: BinaryIO, name: str) -> Iterator[bytes]:
    """Read the events of a Parquet export as the lines of an NDJSON export. Raise LogReadError where it is none."""
    with pq.ParquetFile(opened) as file:
        check_columns(file, name)
        for batch in file.iter_batches(batch_size=1_000):
            for row in batch.to_pylist():
                data = row.pop("data")
                times = {name: row[name].isoformat() for name in ("occurred_at", "recorded_at")}
                head = json.dumps(row | times, default=str)  # str: ids
                yield f'{head[:-1]}, "data": {data}}}'.encode()
