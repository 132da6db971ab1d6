"""Readings of the log as Arrow that go on for as long as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from usage_service.log.arrow import SCHEMA


@contextmanager
def held_batches() -> Iterator[threading.Event]:
    """Have each reading come to a batch that is not made before the event is set, or the block ends."""
    let = threading.Event()

    def batches(*_asked: object) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([], SCHEMA)
        let.wait(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usage_service.log.mirrored.read_batches", batches)
        try:
            yield let
        finally:
            let.set()
