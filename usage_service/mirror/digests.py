"""Digests of loads: one hash of all that the events of a load say, in order, of the log and of the mirror alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 500  # positions: the mirror joins the events of a block into one text, which has to fit into a row there
SEPARATOR, MISSING = "|", "\t"
HASHED = (
    "position", "event_id", "type", "schema_version", "occurred_at", "recorded_at", "visitor", "product", "channel",
    "probe", "source", "data", "digest",
)  # fmt: skip


class LoadDigest:
    """The digest of a load, of batches of its rows in order."""

    def __init__(self) -> None:
        self.events = 0
        self._blocks: list[tuple[int, str]] = []
        self._block, self._texts = -1, list[str]()

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows of the mirror."""
        self.events += rows.num_rows
        texts = _texts(rows)
        blocks = (rows.column("position").to_numpy() // BLOCK).tolist()
        first = 0
        while first < len(blocks):
            block, last = blocks[first], first
            while last < len(blocks) and blocks[last] == block:
                last += 1
            if block != self._block:
                self._end_block()
                self._block = block
            self._texts += texts[first:last]
            first = last

    def finish(self) -> str:
        """Return the digest of all rows."""
        self._end_block()
        return digest_of(self._blocks)

    def _end_block(self) -> None:
        if self._texts:
            text = "\n".join(self._texts)
            self._blocks.append((self._block, hashlib.sha256(text.encode()).hexdigest()))
            self._texts = []


def digest_of(blocks: Iterable[tuple[int, str]]) -> str:
    """Return the digest of a load from the hashes of its blocks, in order."""
    return hashlib.sha256("".join(f"{block}:{found}\n" for block, found in blocks).encode()).hexdigest()


def _texts(rows: pa.RecordBatch) -> list[str]:
    """Return all that each event says as one text, as `digests.sql` joins it."""
    columns: list[Any] = [rows.column(name) for name in HASHED]
    plain = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in columns]
    texts: list[Any] = [pc.fill_null(column.cast(pa.string()), MISSING) for column in plain]
    joined: Any = pc.binary_join_element_wise(*texts, SEPARATOR)
    return list(joined.to_pylist())
