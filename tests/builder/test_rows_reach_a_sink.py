"""Rows of builds reach a sink in the order of the builds, a batch at a time; what it does not take fails no build."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

import pytest
from prometheus_client import generate_latest
from pyarrow.parquet import ParquetFile

from builder.sinks.delivering import Sink
from builder.sinks.glam_tables import Delivered, WriteRows
from builder.sinks.outbox import Batch, BatchLimits
from builder.sinks.parquet_rows import ParquetRows
from tests.support.builders import builds_a_row, put_in_catalogue, request, running_builder, until_state
from tests.support.servers import Client, Connection, eventually
from tests.support.sinks import SINK, TIME_PASSES, WAITING, MemorySink, built, deliver_all, deliverer_of, written
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError

STATUS = "SELECT * FROM sink_status WHERE product = 'fog'"
LARGE = """UPDATE probe_rows SET histogram = ('{"1": 5' || repeat(' ', $1) || '}')::json WHERE $1 > 0"""
PROBES = ("a_ms", "b_ms", "c_ms", "d_ms", "e_ms")


@pytest.fixture(autouse=True)
async def catalogue(database: Connection) -> None:
    await put_in_catalogue(database, *PROBES)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


async def test_a_builder_with_a_sink_takes_rows_there(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    warehouse = Sink(SINK, sink.deliver)
    async with running_builder(database_url, builds_a_row, sink=warehouse, poll_seconds=0.05) as builder:
        build_id = await request(database, "a_ms")
        await until_state(database, "succeeded")

        async def is_told() -> bool:
            exposition = generate_latest(builder.metrics.registry).decode()
            return 'glam_builder_deliveries_total{outcome="delivered"} 1.0' in exposition

        await eventually(is_told, "a batch is delivered")
        assert "glam_builder_delivered_rows_total 1.0" in generate_latest(builder.metrics.registry).decode()
    assert await database.fetchval(WAITING) == 0
    [batch] = sink.batches
    assert batch.builds == (build_id,)


async def test_the_file_has_the_rows_as_they_are(database: Connection, database_url: str, sink: MemorySink) -> None:
    await built(database, "a_ms", 30)
    await database.execute("UPDATE probe_rows SET build_date = '2026-11-19T10:00:00Z', metric_key = 'ä\"\n'")
    async with deliverer_of(database_url, sink.deliver) as deliverer:
        assert await deliver_all(database, deliverer) == 1
    assert list(sink.rows.values()) == [
        {
            "app_id": None, "channel": None, "version": 150, "ping_type": "metrics", "os": "*", "build_id": "*",
            "build_date": "2026-11-19 10:00:00+00", "metric": "a_ms", "metric_type": "counter", "metric_key": 'ä"\n',
            "client_agg_type": "sum", "total_users": 30, "histogram": '{"1": 0.5}', "percentiles": '{"50": 1}',
            "non_norm_histogram": '{"1": 5}', "non_norm_percentiles": '{"50": 1}', "total_sample": 60,
            "batch": "its id",
        }
    ]  # fmt: skip


async def test_a_sink_that_is_switched_on_later_gets_what_was_built_before(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    for users, probe in enumerate(PROBES[:3]):
        await built(database, probe, users, (149, 150))
    await built(database, "a_ms", 50, (150, 151))
    async with deliverer_of(database_url, sink.deliver) as deliverer:
        assert await deliver_all(database, deliverer) == 1
    found = {("a_ms", 149): 0, ("a_ms", 150): 50, ("a_ms", 151): 50}
    assert sink.users == found | {(probe, v): users for users, probe in ((1, "b_ms"), (2, "c_ms")) for v in (149, 150)}


async def test_batches_are_bounded_and_in_the_order_of_the_builds(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    ids = [await built(database, probe, 30, range(100, 110)) for probe in PROBES]
    for limits, number in ((BatchLimits(builds=2), 3), (BatchLimits(rows=25), 3), (BatchLimits(rows=1), 5)):
        sink.batches.clear()
        async with deliverer_of(database_url, sink.deliver, limits=limits) as deliverer:
            assert await deliver_all(database, deliverer) == number
        assert [build_id for batch in sink.batches for build_id in batch.builds] == ids
        await database.execute("SELECT deliver_again($1)", SINK)
    async with deliverer_of(database_url, sink.deliver, limits=BatchLimits(bytes=1)) as deliverer:
        assert await deliver_all(database, deliverer) == len(PROBES)
    assert len({batch.batch_id for batch in sink.batches}) == len(sink.batches)  # nor are its jobs adopted


async def test_rows_that_a_later_build_has_taken_over_come_with_that_one(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    await built(database, "a_ms", 1, (149, 150))
    await built(database, "b_ms", 2)
    await built(database, "a_ms", 3, (150, 151))
    async with deliverer_of(database_url, sink.deliver, limits=BatchLimits(builds=1)) as deliverer:
        await deliver_all(database, deliverer)
    assert [batch.rows for batch in sink.batches] == [1, 1, 2]
    assert sink.users == {("a_ms", 149): 1, ("b_ms", 150): 2, ("a_ms", 150): 3, ("a_ms", 151): 3}


async def test_a_build_whose_rows_are_all_taken_over_costs_no_job(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    await built(database, "a_ms", 1)
    await built(database, "a_ms", 2)
    async with deliverer_of(database_url, sink.deliver, limits=BatchLimits(builds=1)) as deliverer:
        assert await deliver_all(database, deliverer) == 2
    assert [batch.rows for batch in sink.batches] == [1]


async def test_what_a_sink_does_not_take_is_tried_again_and_seen(
    client: Client, database: Connection, database_url: str, sink: MemorySink
) -> None:
    def refuse(_batch: Batch) -> None:
        raise TransientWorkError("backendError", "made up")

    sink.refuse = refuse
    build_id = await built(database, "a_ms", 1)
    async with deliverer_of(database_url, sink.deliver, retry_seconds=300) as deliverer:
        assert await deliverer.deliver_next()
        assert not await deliverer.deliver_next()  # before the back-off is over
        [status] = await database.fetch(STATUS)
        assert (status["waiting"], status["failures"], status["error"]["code"]) == (1, 1, "backendError")
        assert await deliveries(client, build_id) == [
            {"sink": SINK, "delivered": False, "error": {"code": "backendError", "message": "made up"}}
        ]
        heartbeat = await (await client.get("/__heartbeat__")).json()
        assert heartbeat["status"] == "ok"
        assert heartbeat["sinks_behind"][f"{SINK} fog nightly"].endswith("; failures in a row: 1, backendError")
        assert 'glam_sink_waiting_builds{channel="nightly",product="fog",sink="' in await scraped(client)
        sink.refuse = lambda _batch: None
        await built(database, "b_ms", 2)
        await deliver_all(database, deliverer)
    assert sink.users == {("a_ms", 150): 1, ("b_ms", 150): 2}
    assert await deliveries(client, build_id) == [{"sink": SINK, "delivered": True, "error": None}]
    assert (await (await client.get("/__heartbeat__")).json())["sinks_behind"] == {}


async def deliveries(client: Client, build_id: UUID) -> object:
    answer = await client.get(f"/v1/builds/{build_id}", allow_redirects=False)
    assert answer.status == 303
    return (await answer.json())["deliveries"]


async def scraped(client: Client) -> str:
    return await (await client.get("/metrics")).text()


async def test_without_a_sink_a_build_says_nothing_of_one(client: Client, database: Connection) -> None:
    assert await deliveries(client, await built(database, "a_ms", 1)) == []
    assert await database.fetchval("SELECT count(*) FROM sink_status") == 0


async def test_a_build_that_cannot_be_delivered_fails_alone(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    ids = [await built(database, probe, 1) for probe in PROBES]

    def refuse(batch: Batch) -> None:
        if ids[3] in batch.builds:
            raise PermanentWorkError("invalid", "made up")

    sink.refuse = refuse
    async with deliverer_of(database_url, sink.deliver, limits=BatchLimits(builds=4)) as deliverer:
        for _ in range(8):
            await database.execute(TIME_PASSES)
            assert await deliverer.deliver_next()
        assert [build_id for batch in sink.batches for build_id in batch.builds] == ids[:3]
        assert await database.fetchval("SELECT batch FROM sink_channels WHERE product = 'fog'") is None
        sink.refuse = lambda _batch: None
        await deliver_all(database, deliverer)
    assert [build_id for batch in sink.batches for build_id in batch.builds] == ids


async def test_channels_do_not_wait_for_each_other(database: Connection, database_url: str, sink: MemorySink) -> None:
    def refuse(batch: Batch) -> None:
        if batch.channel == "nightly":
            raise PermanentWorkError("notFound", "no such table")

    sink.refuse = refuse
    for channel in ("nightly", "beta", "esr"):  # GLAM has no table of the last one
        await built(database, "a_ms", 1, channel=channel)
    async with deliverer_of(database_url, sink.deliver, retry_seconds=300) as deliverer:
        assert [await deliverer.deliver_next() for _ in range(3)] == [True, True, False]
    assert [batch.channel for batch in sink.batches] == ["beta"]


class Held:
    """A sink that stands still with a batch until it is let go."""

    def __init__(self, sink: MemorySink) -> None:
        self.batches: list[Batch] = []
        self.let_go = threading.Event()
        self._sink = sink

    def deliver(self, batch: Batch, write_rows: WriteRows, control: Control) -> Delivered:
        self.batches.append(batch)
        self.let_go.wait(60)
        control.check()
        return self._sink.deliver(batch, write_rows, control)

    async def has_begun(self) -> bool:
        return bool(self.batches)


async def test_a_batch_is_delivered_by_one_at_a_time_and_taken_over_as_it_is(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    """A batch whose deliverer was silent goes on under its id, before what was built meanwhile."""
    held, first = Held(sink), await built(database, "a_ms", 1, (149, 150))
    async with (
        deliverer_of(database_url, held.deliver, lease_seconds=3_600) as silent,
        deliverer_of(database_url, sink.deliver, name="d2") as other,
    ):
        stuck = asyncio.create_task(silent.deliver_next())
        await eventually(held.has_begun, "the batch is under way")
        second = await built(database, "a_ms", 2, (150,))
        assert not await other.deliver_next()
        await database.execute(TIME_PASSES)
        assert await other.deliver_next()
        assert [batch.builds for batch in sink.batches] == [(first,)]
        assert sink.batches[0].batch_id == held.batches[0].batch_id
        await deliver_all(database, other)
        held.let_go.set()
        assert await stuck  # and it changes nothing any more
    assert [batch.builds for batch in sink.batches] == [(first,), (second,)]
    assert sink.users == {("a_ms", 149): 1, ("a_ms", 150): 2}
    assert await database.fetchval(WAITING) == 0


async def test_a_deliverer_that_stops_gives_its_batch_back(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    held = Held(sink)
    await built(database, "a_ms", 1)
    async with deliverer_of(database_url, held.deliver, lease_seconds=3_600) as stopping:
        task = asyncio.create_task(stopping.run())
        await eventually(held.has_begun, "the batch is under way")
        task.cancel()
        await asyncio.wait([task])
    held.let_go.set()
    async with deliverer_of(database_url, sink.deliver) as other:
        assert await other.deliver_next()
    assert [batch.batch_id for batch in sink.batches] == [held.batches[0].batch_id]


async def test_a_batch_that_was_begun_is_seen_to_its_end_though_its_rows_are_of_others_now(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    def refuse(batch: Batch) -> None:
        raise TransientWorkError("unreachable", "its jobs may run")

    sink.refuse = refuse
    first = await built(database, "a_ms", 1)
    async with deliverer_of(database_url, sink.deliver) as deliverer:
        assert await deliverer.deliver_next()
        second = await built(database, "a_ms", 2)
        sink.refuse = lambda _batch: None
        await deliver_all(database, deliverer)
    assert [(batch.builds, batch.rows) for batch in sink.batches] == [((first,), 0), ((second,), 1)]


async def test_a_lease_is_kept_while_a_batch_takes_long(
    database: Connection, database_url: str, sink: MemorySink
) -> None:
    held = Held(sink)
    await built(database, "a_ms", 1)
    async with deliverer_of(database_url, held.deliver, lease_seconds=0.3) as deliverer:
        task = asyncio.create_task(deliverer.deliver_next())
        await eventually(held.has_begun, "the batch is under way")
        before = await database.fetchval("SELECT max(lease_until) FROM sink_channels")

        async def is_renewed() -> bool:
            return bool(await database.fetchval("SELECT max(lease_until) > $1 FROM sink_channels", before))

        await eventually(is_renewed, "the lease is renewed")
        held.let_go.set()
        assert await task
    assert await database.fetchval(WAITING) == 0


@pytest.mark.parametrize(
    ("number", "blanks", "groups"), [(5_000, 0, [2_000, 2_000, 1_000]), (250, 100_000, [100, 100, 50])]
)
async def test_rows_are_read_and_written_in_groups_of_bounded_rows_and_bytes(
    database: Connection, database_url: str, number: int, blanks: int, groups: list[int]
) -> None:
    await built(database, "a_ms", 1, range(number))
    await database.execute(LARGE, blanks)
    sizes: list[int] = []

    def deliver(batch: Batch, write_rows: WriteRows, control: Control) -> Delivered:
        def counted(rows: ParquetRows) -> None:
            write_rows(rows)
            metadata = ParquetFile(rows.finish()).metadata
            sizes.extend(metadata.row_group(place).num_rows for place in range(metadata.num_row_groups))

        assert len(written(counted)) == number
        return Delivered(number, 0)

    async with deliverer_of(database_url, deliver) as deliverer:
        await deliver_all(database, deliverer)
    assert sizes == groups
