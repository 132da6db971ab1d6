"""Same events, same rows: whatever the order of arrival, the size of the batches, and the repeats."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import reference
from tests.projected import projected_catalogue, projected_popularity, projected_sessions
from tests.support import Connection, JsonObject
from usage_service.appending import Record, append
from usage_service.visitors import VisitorKeys
from usage_service.wire import Envelope, Reader

START = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)  # so that midnight lies within
# On and around the pause that ends a session, and far from it.
MINUTES = [0, 1, 15, 29, 30, 31, 45, 59, 60, 61, 62, 90, 120, 240]
VISITORS = VisitorKeys("a secret for tests only", 90)

payloads = st.one_of(
    st.tuples(st.just("page_viewed"), st.fixed_dictionaries({"page": st.sampled_from("abc")}, optional={
        "referrer": st.sampled_from(["x.org", "y.org"]), "bot": st.booleans()})),
    st.tuples(st.just("probe_viewed"), st.fixed_dictionaries({"found": st.booleans()}, optional={
        "bot": st.booleans()})),
    st.tuples(st.just("control_changed"), st.fixed_dictionaries({"control": st.sampled_from(["os", "level"])})),
    st.tuples(st.just("link_followed"), st.fixed_dictionaries({"tool": st.sampled_from(["looker", "stmo"])})),
    st.tuples(st.just("x_mine"), st.just({})),
    st.tuples(st.just("probe_registered"), st.fixed_dictionaries({
        "type": st.sampled_from(["counter", "event"]), "ping": st.sampled_from(["metrics", "baseline"])})),
    st.tuples(st.sampled_from(["probe_retired", "probe_built"]), st.just({})),
)  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> JsonObject:
    kind, data = draw(payloads)
    made: dict[str, Any] = {
        "event_id": str(draw(st.uuids())),
        "type": kind,
        "occurred_at": (START + timedelta(minutes=draw(st.sampled_from(MINUTES)))).isoformat(),
        "product": draw(st.sampled_from(["fog", "fenix"])),
        "data": data,
    }
    if draw(st.booleans()):
        made["channel"] = "nightly"
    if kind.startswith("probe"):
        made["probe"] = draw(st.sampled_from(["gc_ms", "slow_ms"]))
    if visitor := draw(st.sampled_from([None, "ann", "bob"])):
        made["visitor"] = visitor
    return made


@given(
    log=st.lists(events(), max_size=40, unique_by=lambda item: item["event_id"]),
    repeats=st.lists(st.integers(0, 39), max_size=5),
    arrival=st.randoms(use_true_random=False),
    append_size=st.integers(1, 15),
    fold_size=st.integers(1, 15),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_rows_are_those_of_the_reference(
    database: Connection,
    log: list[JsonObject],
    repeats: list[int],
    arrival: random.Random,
    append_size: int,
    fold_size: int,
) -> None:
    await empty(database)
    arriving = log + [log[index] for index in repeats if index < len(log)]
    arrival.shuffle(arriving)
    for start in range(0, len(arriving), append_size):
        await append(database, records(arriving[start : start + append_size]))
        if arrival.random() < 0.5:
            await fold(database, fold_size, once=True)
    await fold(database, fold_size)
    names = await pseudonyms(database)
    assert await projected_sessions(database) == renamed_sessions(reference.sessions(log), names)
    assert await projected_popularity(database) == renamed_days(reference.popularity(log), names)
    assert await projected_catalogue(database) == reference.catalogue(log)


async def empty(database: Connection) -> None:
    await database.execute(
        "TRUNCATE event_log, catalogue, popularity_days, popularity_visitors, sessions; "
        "UPDATE projections SET position = 0"
    )


def records(batch: list[JsonObject]) -> list[Record]:
    envelope = Envelope([msgspec.Raw(msgspec.json.encode(item)) for item in batch])
    judged = Reader(VISITORS).read(envelope, "test", datetime.now(UTC))
    return [item for item in judged if isinstance(item, Record)]


async def fold(database: Connection, size: int, once: bool = False) -> None:
    for projection in ("catalogue", "popularity", "sessions"):
        while True:
            row = await database.fetchrow("SELECT * FROM advance_projection($1, $2)", projection, size)
            assert row is not None
            if once or row["now_at"] == row["log_end"]:
                break


async def pseudonyms(database: Connection) -> dict[str, str]:
    """Which pseudonym stands for whom, as long as it is kept."""
    rows = {row[0]: row[1] for row in await database.fetch("SELECT lookup, pseudonym::text FROM visitor_keys")}
    keys = {name: VISITORS.of(name, datetime.now(UTC)).lookup for name in ("ann", "bob")}
    return {name: rows[lookup] for name, lookup in keys.items() if lookup in rows}


def renamed_sessions(sessions: list[reference.Session], names: dict[str, str]) -> list[reference.Session]:
    renamed = [dataclasses.replace(session, visitor=names[session.visitor]) for session in sessions]
    return sorted(renamed, key=lambda session: (UUID(session.visitor), session.started_at))


def renamed_days(days: dict[tuple[Any, ...], reference.ProbeDay], names: dict[str, str]) -> object:
    return {
        key: dataclasses.replace(day, visitors={names[visitor] for visitor in day.visitors})
        for key, day in days.items()
    }
