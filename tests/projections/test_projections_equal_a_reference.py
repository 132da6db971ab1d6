"""Same events, same rows: whatever the order of arrival, the size of batches, the repeats; rebuilt at any moment, too.

SOAK_ROUNDS says how many logs are tried.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.servers import Connection, JsonObject, event, rounds
from tests.support.traffic import PROJECTIONS, VISITORS, assert_rows_of, ignore, records
from usage_service.ingest.appending import append
from usage_service.ingest.masking import Masking
from usage_service.projections.rebuilding import verify

START = datetime(2026, 7, 3, 23, 0, tzinfo=UTC)  # so that midnight lies within
# So that pauses are exactly what ends a session, and a second less or more.
GAPS = [30, 45, 15]
MINUTES = [0, 15, 30, 45, 60, 75, 90, 240]
SECONDS = [0, 0, 0, -1, 1]
DAYS = [0, 0, 0, 1, 2, 9, 30, 130]  # so that people come again, and weeks end
GAP = """
UPDATE projections SET settings = settings || jsonb_build_object('gap_minutes', $1::integer) WHERE name = 'sessions'
"""
EXAMPLES = rounds(6)
# Those that are stored as they are: queries and names of users are dropped at the door.
REFERRERS = [name for name in reference.ORIGINS if name and Masking().mask_address(name) == name]

moments = st.builds(
    timedelta, days=st.sampled_from(DAYS), minutes=st.sampled_from(MINUTES), seconds=st.sampled_from(SECONDS)
)
bots: dict[str, st.SearchStrategy[Any]] = {"bot": st.booleans()}
# None is later than any event.
published = st.integers(1, 6).map(lambda quarters: (START - timedelta(minutes=15 * quarters)).isoformat())
payloads = st.one_of(
    st.tuples(st.just("page_viewed"), st.fixed_dictionaries({"page": st.sampled_from("abc")}, optional=bots | {
        "referrer": st.sampled_from(REFERRERS)})),
    st.tuples(st.just("probe_viewed"), st.fixed_dictionaries({"found": st.booleans()}, optional=bots)),
    st.tuples(st.just("probe_searched"), st.fixed_dictionaries({"query": st.just("gc"), "results": st.just(1)})),
    st.tuples(st.just("control_changed"), st.fixed_dictionaries({
        "control": st.sampled_from(["os", "level"])}, optional=bots)),
    st.tuples(st.just("link_followed"), st.fixed_dictionaries({
        "tool": st.sampled_from(["looker", "stmo"])}, optional=bots)),
    st.tuples(st.just("x_mine"), st.fixed_dictionaries({}, optional={
        "bot": st.sampled_from([True, False, None, "maybe", "true", 1, [True]])})),
    st.tuples(st.just("probe_registered"), st.fixed_dictionaries({
        "type": st.sampled_from(["counter", "event"])}, optional={"ping": st.sampled_from(["metrics", "baseline"]),
        "labels": st.lists(st.sampled_from(["a", 'b"', "ü"]), max_size=2, unique=True),
        "owners": st.lists(st.sampled_from(["a@example.org", "b"]), max_size=2),
        "description": st.sampled_from(["", "Wie lange\nes „dauert“"]),
        "expires": st.sampled_from(["never", "140"]),
        "time_unit": st.sampled_from(["second", "day"]),
        "memory_unit": st.just("byte"),
        "unit": st.sampled_from(["%", "px"]),
        "disabled": st.just(True)})),
    st.tuples(st.sampled_from(["probe_retired", "probe_built"]), st.just({})),
    st.tuples(st.sampled_from(["build_succeeded", "build_found_no_data"]), st.fixed_dictionaries({
        "build_id": st.just("b")}, optional={
        "bytes": st.integers(0, 3) | st.none(), "seconds": st.sampled_from([0.5, 60.123, 2])})),
    st.tuples(st.just("release_published"), st.fixed_dictionaries({"version": st.sampled_from([120, 121])}, optional={
        "published_at": published})),
    st.tuples(st.just("release_retracted"), st.fixed_dictionaries({
        "version": st.sampled_from([120, 121]), "published_at": published})),
    st.tuples(st.just("revision_published"), st.fixed_dictionaries({
        "build_id": st.sampled_from(["2026112010", "20261120101500", "20261120103000", "2026112011"]),
        "revision": st.sampled_from(["abcdef1", "0123456"])})),
)  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> JsonObject:
    kind, data = draw(payloads)
    made: dict[str, Any] = {
        "event_id": str(draw(st.uuids(version=4))),
        "type": kind,
        "occurred_at": (START + draw(moments)).isoformat(),
        "product": draw(st.sampled_from(["fog", "fenix"])),
        "data": data,
    }
    if kind.startswith(("release", "revision", "build")) or draw(st.booleans()):
        made["channel"] = "nightly"
    if kind.startswith(("probe", "build")):
        made["probe"] = draw(st.sampled_from(["gc_ms", "slow_ms"]))
    if (visitor := draw(st.sampled_from(["ann", "bob", None]))) and not kind.startswith("build"):
        made["visitor"] = visitor
    return made


@given(
    log=st.lists(events(), min_size=3, max_size=40, unique_by=lambda item: item["event_id"]),
    repeats=st.lists(st.integers(0, 39), max_size=5),
    chance=st.randoms(use_true_random=False),
    append_size=st.integers(1, 15),
    gaps=st.tuples(st.sampled_from(GAPS), st.sampled_from(GAPS)),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_rows_are_those_of_the_reference_live_and_rebuilt(
    own_database: Connection,
    log: list[JsonObject],
    repeats: list[int],
    chance: random.Random,
    append_size: int,
    gaps: tuple[int, int],
) -> None:
    await empty(own_database, gaps[0])
    arriving = log + [log[index] for index in repeats if index < len(log)]
    chance.shuffle(arriving)
    for start in range(0, len(arriving), append_size):
        await append(own_database, records(arriving[start : start + append_size]))
        await step_at_random(own_database, chance, gaps)
    live_gap = await own_database.fetchval(
        "SELECT settings ->> 'gap_minutes' FROM projections WHERE name = 'sessions' AND stage = 'live'"
    )
    for projection in PROJECTIONS:
        await fold(own_database, projection, "live", chance.randint(1, 15))
    await check(own_database, log, int(live_gap))
    for projection in PROJECTIONS:
        await begin(own_database, projection, gaps[1])
        await fold(own_database, projection, "rebuild", chance.randint(1, 15))
        assert await swap(own_database, projection, 0) is not None
    await check(own_database, log, gaps[1])


async def test_a_pause_of_exactly_the_gap_ends_a_session(own_database: Connection) -> None:
    """And what comes later between two sessions joins them."""
    for seconds, number in ((0, 1), (1_800, 2), (3_599, 2), (5_399, 3), (1, 2), (3_600, 1)):
        at = (START + timedelta(seconds=seconds)).isoformat()
        await append(own_database, records([event(occurred_at=at)]))
        await advance(own_database, "sessions", "live", 1)
        assert await own_database.fetchval("SELECT count(*) FROM sessions") == number, seconds


async def test_sessions_that_are_joined_have_each_name_once_and_sorted(own_database: Connection) -> None:
    arriving = [(0, "b"), (0, "c"), (40, "a"), (40, "b"), (20, None), (25, "aa")]
    for minutes, probe in arriving:
        at = (START + timedelta(minutes=minutes)).isoformat()
        viewed = event("probe_viewed", probe=probe) if probe else event("page_viewed", data={"page": "/"})
        await append(own_database, records([viewed | {"occurred_at": at, "visitor": "ann"}]))
        await advance(own_database, "sessions", "live", 1)
    [session] = await own_database.fetch("SELECT probes, events FROM sessions")
    assert tuple(session) == (["a", "aa", "b", "c"], len(arriving))


async def step_at_random(database: Connection, chance: random.Random, gaps: tuple[int, int]) -> None:
    """Fold some projections on, rebuild some, swap some: each a batch, whatever came before."""
    for projection in PROJECTIONS:
        if chance.random() < 0.5:
            await advance(database, projection, "live", chance.randint(1, 15))
        if chance.random() < 0.2:
            await begin(database, projection, gaps[1])
            await advance(database, projection, "rebuild", chance.randint(1, 15))
            await swap(database, projection, chance.randint(0, 15))


async def check(database: Connection, log: list[JsonObject], gap: int) -> None:
    """Compare the rows with those of the reference, which a verification has to find, too."""
    names = await pseudonyms(database)
    renamed = [item | {"visitor": names[item["visitor"]]} if "visitor" in item else item for item in log]
    await assert_rows_of(database, dict.fromkeys(PROJECTIONS, renamed), timedelta(minutes=gap))
    for projection in PROJECTIONS:
        verdict = await verify(database, projection, ignore)
        assert verdict.equal, verdict


async def empty(database: Connection, gap: int) -> None:
    await database.execute(
        "TRUNCATE event_log, build_costs, build_revisions, catalogue, popularity_returns, popularity_series,"
        " popularity_views, popularity_visitors, releases, release_publications, sessions, session_counts,"
        " journey_events, probe_hours;"
        "SELECT drop_projection(name, stage) FROM projections WHERE stage <> 'live';"
        "UPDATE projections SET position = 0;"
    )
    await database.execute(GAP, gap)


async def advance(database: Connection, projection: str, stage: str, size: int) -> bool:
    """Fold a batch; return whether that was the last one."""
    row = await database.fetchrow("SELECT * FROM advance_projection($1, $2, $3)", projection, size, stage)
    assert row is not None
    return bool(row["now_at"] == row["log_end"])


async def fold(database: Connection, projection: str, stage: str, size: int) -> None:
    while not await advance(database, projection, stage, size):
        pass


async def begin(database: Connection, projection: str, gap: int) -> None:
    changed: JsonObject = await database.fetchval(
        "SELECT settings FROM projections WHERE name = $1 AND stage = 'live'", projection
    )
    if projection == "sessions":
        changed = changed | {"gap_minutes": gap}
    await database.execute("SELECT begin_filling($1, 'rebuild', $2)", projection, changed)


async def swap(database: Connection, projection: str, most_left: int) -> int | None:
    position: int | None = await database.fetchval("SELECT swap_projection($1, $2)", projection, most_left)
    return position


async def pseudonyms(database: Connection) -> dict[str, str]:
    """Return which pseudonym stands for whom, as long as it is kept."""
    rows = {row[0]: row[1] for row in await database.fetch("SELECT lookup, pseudonym::text FROM visitor_keys")}
    keys = {name: VISITORS.of(name, VISITORS.epoch(datetime.now(UTC))).lookup for name in ("ann", "bob")}
    return {name: rows[lookup] for name, lookup in keys.items() if lookup in rows}
