"""Builds that are over and have rows, and deliverers that take these to a sink."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from pyarrow.parquet import read_table

from builder.metrics import BuilderMetrics
from builder.settings import BuilderSettings
from builder.sinks.delivering import Deliver, Deliverer
from builder.sinks.glam_tables import COLUMNS, Delivered, WriteRows
from builder.sinks.outbox import BATCH_LIMITS, Batch, BatchLimits, Outbox
from builder.sinks.parquet_rows import ParquetRows
from tests.support.servers import Connection
from usage_service.shared.bigquery.control import Control
from usage_service.shared.postgres import open_pool

SINK = "glam-project.glam_etl"
KEY = ("version", "ping_type", "os", "build_id", "metric", "metric_type", "metric_key", "client_agg_type")
CONNECTIONS = 4
# What was built before is not fresh any more.
BEFORE = "UPDATE builds SET finished_at = finished_at - interval '2 days' WHERE state = 'succeeded'"
ROWS = """
INSERT INTO probe_rows
SELECT $1, $2, $3, $4, version, 'metrics', '*', '*', 'counter', '', 'sum', $6::integer, 2 * $6::integer, '{"1": 0.5}',
       '{"50": 1}', '{"1": 5}', '{"50": 1}', NULL
FROM unnest($5::integer[]) version
"""
WAITING = "SELECT coalesce(sum(waiting), 0)::integer FROM sink_status"
# Whoever has claimed a channel has been silent for too long, and every pause is over.
TIME_PASSES = """
UPDATE sink_channels SET not_before = not_before - interval '1 hour', lease_until = lease_until - interval '1 hour'
"""


class MemorySink:
    """A sink in memory, to which a batch that it has is nothing new, as a job's id is to a warehouse.

    `batches` are those that it got; `refuse` is called with each before, and may raise.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[object, ...], dict[str, Any]] = {}
        self.batches: list[Batch] = []
        self.refuse: Callable[[Batch], object] = lambda _batch: None

    def deliver(self, batch: Batch, write_rows: WriteRows, control: Control) -> Delivered:
        """Merge the rows of the batch."""
        self.refuse(batch)
        if batch.batch_id in {known.batch_id for known in self.batches}:
            return Delivered(0, 0)
        staged = written(write_rows)
        self.batches.append(batch)
        self.rows |= {tuple(row[name] for name in KEY): row for row in staged}
        return Delivered(len(staged), 1_000)

    @property
    def users(self) -> dict[tuple[str, int], int]:
        """Return the users of each probe and version."""
        return {(row["metric"], row["version"]): row["total_users"] for row in self.rows.values()}


def written(write_rows: WriteRows) -> list[dict[str, Any]]:
    """Return the rows of the file that is written."""
    columns = {name: kind.parquet for name, kind in COLUMNS.items()}
    constants = {"app_id": None, "channel": None, "batch": "its id"}
    with tempfile.TemporaryFile() as file, ParquetRows(file, columns, constants) as rows:
        write_rows(rows)
        found: list[dict[str, Any]] = read_table(rows.finish()).to_pylist()
    return found


async def built(
    database: Connection,
    probe: str,
    users: int,
    versions: Sequence[int] = (150,),
    channel: str = "nightly",
    rows: str = ROWS,
) -> UUID:
    """Build a probe, which a newer build may do again, and return the build: it has a row for each version."""
    await database.execute(BEFORE)
    product = await database.fetchval("SELECT product FROM catalogue WHERE probe = $1", probe)
    async with database.transaction():
        await database.execute("SELECT request_build($1, $2, $3, 'test')", product, channel, probe)
        build_id: UUID = await database.fetchval("SELECT build_id FROM claim_build('test', interval '1 minute')")
        await database.execute(rows, product, channel, probe, build_id, versions, users)
        await database.execute("SELECT complete_build($1, 1, 1000)", build_id)
    return build_id


@asynccontextmanager
async def deliverer_of(
    url: str, deliver: Deliver, *, name: str = "d1", limits: BatchLimits = BATCH_LIMITS, **values: object
) -> AsyncIterator[Deliverer]:
    """Yield a deliverer that delivers nothing by itself; it neither waits for more builds nor long after a failure."""
    usual = BuilderSettings(database_url=url, poll_seconds=0.05, retry_seconds=0.001, sink_seconds=0.001)
    settings = msgspec.structs.replace(usual, **values)
    async with open_pool(url, role="usage_builder", application=name, size=CONNECTIONS) as pool:
        outbox = Outbox(pool, SINK, name, timedelta(seconds=settings.lease_seconds), limits)
        yield Deliverer(outbox, deliver, settings, BuilderMetrics())


async def deliver_all(database: Connection, deliverer: Deliverer) -> int:
    """Deliver until the sink lacks nothing, and return how many batches that took."""
    number = 0
    await database.execute(TIME_PASSES)
    while await deliverer.deliver_next():
        number += 1
        await database.execute(TIME_PASSES)
    assert await database.fetchval(WAITING) == 0
    return number
