"""Sessions of any length have a bounded row, and tell how many names are beyond it; nothing overflows an index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.reference import MOST_NAMES
from tests.support.servers import Client, Connection, JsonObject, event, post, registered, rounds
from tests.support.traffic import assert_as_the_reference, fold_all, ignore, records
from usage_service.ingest.appending import append
from usage_service.projections.rebuilding import verify
from usage_service.stats.together import EVENTS_READ, viewed_together
from usage_service.stats.view_counts import ViewCounts

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
# Texts of these names have a bound: the door's, a constraint's, or that they are ten digits.
BOUNDED = {
    "product",
    "channel",
    "probe",
    "role",
    "name",
    "stage",
    "state",
    "projection",
    "host",
    "metric_type",
    "source",
    "key",
    "pattern",
    "build_hour",
    "code",
    "policy",
    "type",
}
INDEXED = """
SELECT i.indexrelid::regclass::text AS index, coalesce(a.attname, '') AS column, format_type(a.atttypid, -1) AS type
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'public'::regnamespace
JOIN pg_am m ON m.oid = (SELECT relam FROM pg_class WHERE oid = i.indexrelid) AND m.amname = 'btree'
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) k (number)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE NOT a.attisdropped
"""


def viewed(number: int, probe: str) -> JsonObject:
    return event("probe_viewed", probe=probe, occurred_at=(NOON + timedelta(seconds=number)).isoformat())


async def test_a_session_about_many_products(own_database: Connection) -> None:
    await append(own_database, records([event(product=f"p{uuid4().hex[:31]}") for _ in range(120)]))
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    [names] = await own_database.fetchrow("SELECT cardinality(products) FROM sessions") or [0]
    assert names == MOST_NAMES + 1
    assert (await verify(own_database, "sessions", ignore)).equal


async def test_nothing_without_a_bound_is_in_an_index(own_database: Connection) -> None:
    columns = {tuple(row) for row in await own_database.fetch(INDEXED)}
    assert not {column for column in columns if column[2].endswith("[]") or column[2] in ("jsonb", "json", "page_view")}
    texts = {(index, name) for index, name, kind in columns if kind == "text" and name not in BOUNDED}
    assert texts == {
        ("hotlist_runs_pkey", "run"),
        ("sink_channels_pkey", "sink"),
        ("mirrors_pkey", "mirror"),
        ("mirror_loads_by_time", "mirror"),
        ("mirror_loads_pkey", "mirror"),
        ("mirror_loads_that_differ", "mirror"),
        ("mirror_loads_to_verify", "mirror"),
        ("one_load_under_way", "mirror"),
        ("warehouse_jobs_pkey", "job"),
        ("one_row_a_combination", "ping_type"),
        ("one_row_a_combination", "os"),
        ("one_row_a_combination", "build_id"),
        ("one_row_a_combination", "metric_key"),
        ("one_row_a_combination", "client_agg_type"),
    }  # of programs: how long each can be is theirs to say


async def test_the_longest_names_that_the_door_takes_are_folded(own_database: Connection) -> None:
    product, channel, probe = "p" + uuid4().hex[:31], "c" + uuid4().hex[:31], (uuid4().hex * 7)[:200]
    names = {"product": product, "channel": channel, "probe": probe}
    await append(own_database, records([
        registered("x") | names | {"data": {"type": "t" * 100, "ping": "p" * 100}},
        event("probe_viewed", **names),
        event("page_viewed", product=product, data={"page": (uuid4().hex * 63)[:2_000], "referrer": "r" * 2_000}),
        event("link_followed", product=product, data={"tool": (uuid4().hex * 4)[:100]}),
    ]))  # fmt: skip
    await fold_all(own_database)
    assert not await own_database.fetchval("SELECT count(*) FROM dead_letters")


async def test_a_long_session_keeps_a_fair_part_and_says_how_much_more_there_was(
    client: Client, database: Connection
) -> None:
    """In whatever order its events come."""
    names = [f"probe_{number}" for number in range(400)]
    log = [viewed(number, name) for number, name in enumerate(names)]
    for part in (log[300:], log[:100], log[100:300], [viewed(number, names[0]) for number in range(5)]):
        await append(database, records(part))
        await database.execute("SELECT advance_projection('sessions', 7)")
    await fold_all(database)
    await assert_as_the_reference(database)
    time_range = f"since={NOON:%Y-%m-%d}&until={NOON + timedelta(days=1):%Y-%m-%d}"
    [session] = (await (await client.get(f"/v1/sessions?{time_range}")).json())["sessions"]
    kept = reference.kept_names(names)
    assert session["probes"] == sorted(sorted(kept, key=reference.name_hash)[:MOST_NAMES])
    assert session["beyond"] == {"probes": reference.names_beyond(kept)}
    assert 200 < session["beyond"]["probes"] < 400
    summary = (await (await client.get(f"/v1/sessions/summary?{time_range}")).json())["summary"]
    number = MOST_NAMES + session["beyond"]["probes"]
    assert (summary["sessions_cut"], summary["quantiles"]["probes"]["median"]) == (1, number)
    assert summary["probes_a_session"] == [{"number": number, "sessions": 1}]
    page = await (await client.get(f"/sessions/{session['visitor']}/{session['started_at']}")).text()
    assert f"<dd>{number}<small>about</small></dd>" in page


@given(
    names=st.lists(st.integers(0, 200), max_size=300),
    parts=st.lists(st.integers(0, 300), max_size=5),
)
@settings(max_examples=rounds(10), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_same_names_are_kept_in_whatever_order_and_parts_they_come(
    database: Connection, names: list[int], parts: list[int]
) -> None:
    """Sorted where they are all there are, else by their hashes, which tell at once what does not belong."""
    kept: list[str] = []
    bounds = [0, *sorted(min(part, len(names)) for part in parts), len(names)]
    for begin, end in pairwise(bounds):
        kept = await database.fetchval("SELECT add_names($1, $2)", kept, [f"probe_{name}" for name in names[begin:end]])
    expected = reference.kept_names({f"probe_{name}" for name in names})
    assert kept == sorted(expected, key=reference.name_hash if len(expected) > MOST_NAMES else None)
    assert await database.fetchval("SELECT names_beyond($1)", kept) == reference.names_beyond(expected)


async def test_a_session_of_just_so_many_is_whole(client: Client, database: Connection) -> None:
    await post(client, *(viewed(number, f"probe_{number}") for number in range(MOST_NAMES)))
    await fold_all(database)
    [session] = (await (await client.get("/v1/sessions?since=2026-11-20&until=2026-11-21")).json())["sessions"]
    assert (len(session["probes"]), session["beyond"]) == (MOST_NAMES, {})
    await post(client, viewed(0, "another"))
    await fold_all(database)
    [session] = (await (await client.get("/v1/sessions?since=2026-11-20&until=2026-11-21")).json())["sessions"]
    assert len(session["probes"]) == MOST_NAMES
    assert session["beyond"]["probes"] >= 1


async def test_what_is_viewed_together_says_how_many_are_not_known(own_database: Connection) -> None:
    await append(own_database, records([viewed(number, f"probe_{number % 9}") for number in range(EVENTS_READ + 1)]))
    await fold_all(own_database)
    begin, end = NOON - timedelta(days=1), NOON + timedelta(days=1)
    found = await viewed_together(own_database, ViewCounts(), begin, end, "fog", "probe_1", 10)
    assert found.sessions_cut == 1
