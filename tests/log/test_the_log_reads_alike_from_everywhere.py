"""Database, service and exported files give an analyst the same events, as Arrow and typed, whatever is asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.logs import BEGIN, KINDS, line, write_log
from tests.support.servers import Client, Connection, JsonObject, event, post, rounds
from usage_service.commands.exporting import export_log
from usage_service.events import EVENT_TYPES, Data, Event, ProbeViewedData
from usage_service.ingest.restoring import restore
from usage_service.log import arrow, exported, stored_events
from usage_service.log.arrow import SCHEMA
from usage_service.log.batches import upcast
from usage_service.log.exports import Format
from usage_service.log.history import Log, LogReadError, read
from usage_service.log.reading import LogFilter
from usage_service.log.stored_events import StoredEvent

EVENTS = 60
POSITIONS = [position for position in range(1, 200) if position % 3][:EVENTS]
END = POSITIONS[-1]
QUESTION = "SELECT count(*), count(DISTINCT event_id), any_value(typeof(visitor)) FROM"
SOURCES = ["database", "service", "log.parquet", "log.ndjson", "log.ndjson.gz"]


@pytest.fixture
async def sources(
    client: Client, database: Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Return the sources of one log, which is read in many short pieces."""
    monkeypatch.setattr(arrow, "RANGE_POSITIONS", 7)
    monkeypatch.setattr(exported, "ROWS_A_BATCH", 7)
    lines = [json.dumps(line(position)).encode() for position in POSITIONS]
    await restore(database, [msgspec.json.decode(text, type=StoredEvent) for text in lines])
    url = str(client.make_url("/"))
    for name in SOURCES[2:]:
        await export(tmp_path / name, url)
    return {"database": database_url, "service": url} | {name: str(tmp_path / name) for name in SOURCES[2:]}


async def export(path: Path, url: str) -> None:
    form: Format = "parquet" if path.suffix == ".parquet" else "ndjson"
    await asyncio.to_thread(export_log, path, form, 0, url, None)


def comparable(row: JsonObject) -> JsonObject:
    """Return a row of Arrow as the line of an export."""
    times = {name: row[name].isoformat() for name in ("occurred_at", "recorded_at")}
    ids = {name: str(row[name]) for name in ("event_id", "visitor", "digest") if row[name]}
    return row | times | ids | {"data": json.loads(row["data"])}


def rows(log: Log) -> list[JsonObject]:
    return [comparable(row) for row in log.table().to_pylist()]


def makes_sense(asked: dict[str, Any]) -> bool:
    """Tell whether an event may be in such a part; others are refused."""
    positions = asked.get("after", 0), asked.get("upto", END + 5)
    times = asked.get("since", BEGIN.isoformat()), asked.get("until", "9999")
    return bool(positions[0] <= positions[1] and times[0] < times[1])


ASKED = st.fixed_dictionaries(
    {},
    optional={
        "after": st.integers(0, END + 5),
        "upto": st.integers(0, END + 5),
        "since": st.integers(0, END).map(lambda minute: line(minute)["occurred_at"]),
        "until": st.integers(0, END).map(lambda minute: line(minute)["occurred_at"]),
        "types": st.lists(st.sampled_from(KINDS), min_size=1, max_size=2),
        "product": st.sampled_from(["fog", "fenix", "other"]),
        "visitor": st.sampled_from([str(line(position)["visitor"]) for position in (1, 2, 4)]),
    },
).filter(makes_sense)


def wanted(asked: dict[str, Any], item: JsonObject) -> bool:
    return (
        asked.get("after", 0) < item["position"] <= asked.get("upto", END)
        and asked.get("since", BEGIN.isoformat()) <= item["occurred_at"] < asked.get("until", "9999")
        and item["type"] in asked.get("types", KINDS)
        and asked.get("product", item["product"]) == item["product"]
        and asked.get("visitor", item["visitor"]) == item["visitor"]
    )


@given(asked=ASKED)
@settings(
    max_examples=rounds(6),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_source_gives_what_was_asked_for(sources: dict[str, str], asked: dict[str, Any]) -> None:
    expected = [item for item in map(line, POSITIONS) if wanted(asked, item)]
    for name, source in sources.items():
        log = read(source, **asked)
        assert await asyncio.to_thread(rows, log) == expected, name
        assert log.end == min(asked.get("upto", END), END)


async def test_events_are_typed_and_a_log_is_read_again_and_again(sources: dict[str, str]) -> None:
    for name, source in sources.items():
        log = read(source, types=["probe_viewed", "x_mine"])
        first, again = await asyncio.to_thread(lambda log: (list(log), list(log)), log)
        assert [one.position for one in first] == [one.position for one in again], name
        assert [str(one.event_id) for one in first] == [line(one.position)["event_id"] for one in first], name
        assert [one.occurred_at for one in first] == [
            datetime.fromisoformat(line(one.position)["occurred_at"]) for one in first
        ]
        assert first[0].typed_data() == ProbeViewedData(found=True)
        assert first[1].typed_data() == line(2)["data"]


async def test_a_log_ends_where_it_ended_when_it_was_first_read(client: Client, sources: dict[str, str]) -> None:
    logs = [read(sources["database"]), read(sources["service"])]
    assert await asyncio.to_thread(lambda: [log.size for log in logs]) == [END, END]
    await post(client, event())
    for log in logs:
        assert (await asyncio.to_thread(log.table)).num_rows == EVENTS
    assert await asyncio.to_thread(lambda: read(sources["database"]).end) == END + 1


async def test_duckdb_and_polars_take_it(sources: dict[str, str]) -> None:
    def ask(source: str) -> tuple[Any, Any]:
        reader, log = read(source).arrow(), read(source)
        with duckdb.connect() as connection:
            once = connection.execute(f"{QUESTION} reader").fetchall()
            for _ in range(2):  # a Log, unlike a reader, is read anew
                assert connection.execute(f"{QUESTION} log").fetchall() == once
        assert reader.schema == SCHEMA
        return once, pl.DataFrame(log).select(pl.len(), pl.col("visitor").n_unique()).row(0)

    for source in sources.values():
        counted, frame = await asyncio.to_thread(ask, source)
        assert counted == [(EVENTS, EVENTS, "UUID")]
        assert frame == (EVENTS, 8)


class ZoomedData(Data, frozen=True, kw_only=True):
    level: float
    axis: str


class Zoomed(Event, frozen=True, kw_only=True, tag="zoomed"):
    schema_version: ClassVar[int] = 3
    data: ZoomedData


async def test_older_versions_are_read_as_the_current_one(
    sources: dict[str, str], database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENT_TYPES, "zoomed", Zoomed)
    monkeypatch.setitem(stored_events.UPCASTS, ("zoomed", 1), lambda data: data | {"axis": "x"})
    monkeypatch.setitem(stored_events.UPCASTS, ("zoomed", 2), lambda data: data | {"level": data["level"] / 100})
    versions = {1: {"level": 150}, 2: {"level": 150, "axis": "x"}, 3: {"level": 1.5, "axis": "x"}}
    for version, data in versions.items():
        changed = {"type": "zoomed", "schema_version": version, "data": data}
        text = json.dumps(line(1_000 + version) | changed).encode()
        await restore(database, [msgspec.json.decode(text, type=StoredEvent)])
    for name, source in sources.items():
        if name.startswith("log"):
            await export(Path(source), sources["service"])
        table = await asyncio.to_thread(read(source, types="zoomed").table)
        assert table["schema_version"].to_pylist() == [3, 3, 3], name
        assert [json.loads(str(text)) for text in table["data"].to_pylist()] == [versions[3]] * 3, name
        events = await asyncio.to_thread(list[StoredEvent], read(source, after=1_000))
        assert [one.typed_data() for one in events] == [ZoomedData(level=1.5, axis="x")] * 3, name


def test_nothing_is_copied_where_nothing_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stored_events.UPCASTS, ("page_viewed", 7), lambda data: data)
    [batch] = read(write_log(tmp_path / "log.ndjson", 10)).batches()
    assert upcast(batch) is batch


def test_parquet_of_earlier_versions_is_read(tmp_path: Path) -> None:
    table = read(write_log(tmp_path / "log.ndjson", 10)).table()
    for name in ("event_id", "visitor", "digest"):
        texts = pa.array([value and str(value) for value in table[name].to_pylist()], pa.string())
        table = table.set_column(table.column_names.index(name), name, texts)
    pq.write_table(table, tmp_path / "old.parquet")
    assert read(tmp_path / "old.parquet").table() == read(tmp_path / "log.ndjson").table()


def test_only_one_batch_is_read_ahead(tmp_path: Path) -> None:
    source = write_log(tmp_path / "log.ndjson", 3_000)
    made = read(source).table().to_batches(max_chunksize=10)
    handed: list[int] = []

    class Counted:
        def end(self) -> int:
            return 10_000

        def batches(self, after: int, upto: int, only: LogFilter) -> Iterator[pa.RecordBatch]:
            for number, batch in enumerate(made):
                handed.append(number)
                yield batch

    for number, _ in enumerate(Log(Counted(), 0, None, LogFilter()).batches()):
        assert len(handed) <= number + 2
        if number == 50:
            break
    assert len(handed) <= 53


async def test_whoever_may_only_read_reads(sources: dict[str, str]) -> None:
    as_reader = f"{sources['database']}?options=-c%20role%3Dusage_reader"
    assert (await asyncio.to_thread(read(as_reader).table)).num_rows == EVENTS
    as_nobody = as_reader.replace("reader", "nobody_there")
    with pytest.raises(LogReadError, match="nobody_there"):
        await asyncio.to_thread(read(as_nobody).table)
