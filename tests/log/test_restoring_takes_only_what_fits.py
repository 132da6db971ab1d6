"""An export is restored but for the lines that cannot be: each is judged on its own and named, and none is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, NamedTuple
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SECRET, Start
from tests.support.request_forms import LINES
from tests.support.servers import Client, Connection, JsonObject, drained_projections, event, post, registered, rounds
from tests.support.traffic import append_traffic, assert_as_the_reference, fold_all, ignore
from usage_service.events import EVENT_TYPES, Data, Event
from usage_service.imports.importing import import_file
from usage_service.log import stored_events
from usage_service.projections.rebuilding import verify
from usage_service.shared.settings import ServerSettings

LAST_OF_ALL = 2**63 - 1
EVERYTHING = "SELECT event_log::text FROM event_log ORDER BY position"
FEW = settings(
    max_examples=rounds(6),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def stored(position: int, kind: str = "page_viewed", data: object = None, **fields: object) -> JsonObject:
    """Make an event as it is exported."""
    return {
        "position": position,
        "event_id": str(UUID(int=position % 2**64)),
        "type": kind,
        "schema_version": 1,
        "occurred_at": "2026-11-20T12:00:00+00:00",
        "recorded_at": "2026-11-20T12:00:01+00:00",
        "visitor": None,
        "product": "fog",
        "channel": None,
        "probe": "gc_ms",
        "source": "tests",
        "data": {"page": "/"} if data is None else data,
        "digest": str(UUID(int=17)),
    } | fields


async def restore(client: Client, *lines: object) -> tuple[int, JsonObject]:
    """Post lines, each an event or bytes; return the status and the answer."""
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    response = await client.post("/v1/events/restore", data=body, headers=LINES)
    return response.status, await response.json()


async def positions(database: Connection) -> list[int]:
    return [row[0] for row in await database.fetch("SELECT position FROM event_log ORDER BY position")]


async def rows(database: Connection) -> list[str]:
    return [row[0] for row in await database.fetch(EVERYTHING)]


async def by_position(database: Connection) -> dict[int, str]:
    return dict(zip(await positions(database), await rows(database), strict=True))


async def empty(database: Connection) -> None:
    await database.execute("TRUNCATE event_log, visitor_keys; ALTER SEQUENCE event_position RESTART")


WRONG: list[tuple[JsonObject | bytes, str]] = [
    (stored(2, "probe_viewed", {"found": "zzz"}), "/data/found"),
    (stored(2, "probe_viewed", {}), "/data/found"),
    (stored(2, "probe_viewed", {"found": True, "mine": 1}), "/data/mine"),
    (stored(2, "probe_viewed", {"found": True}, probe=None), "/probe"),
    (stored(2, "probe_viewed", {"found": True}, product="Fog!"), "/product"),
    (stored(2, data={"page": "a" * 2_001}), "/data/page"),
    (stored(2, data=[1]), "/data"),
    (stored(2, data="text"), "/data"),
    (stored(2, "x_mine", {"text": "\0"}), "/data"),
    (stored(2, "x_mine", {"deep": json.loads("[" * 65 + "]" * 65)}), "/data"),
    (stored(2, "x_MINE"), "/type"),
    (stored(2, "nobody_knows"), "/type"),
    (stored(2, "build_started", {"attempt": 1}, channel="nightly"), "/data/build_id"),
    (stored(2, "build_started", {"build_id": "a" * 9_000}, channel="nightly"), "/data/build_id"),
    (stored(2, schema_version=2), "/schema_version"),
    (stored(2, schema_version=0), "/schema_version"),
    (stored(2, schema_version=70_000), "/schema_version"),
    (stored(2, occurred_at="9999-12-31T23:59:59+00:00"), "/occurred_at"),
    (stored(2, occurred_at="0001-01-01T00:00:00+14:00"), "/occurred_at"),
    (stored(2, occurred_at="2026-11-20T12:00:00"), "/occurred_at"),
    (stored(2, recorded_at="9999-12-31T23:59:59+00:00"), "/recorded_at"),
    (stored(2, recorded_at="1970-01-01T00:00:00+00:00"), "/recorded_at"),
    (stored(2, source=""), "/source"),
    (stored(2, source="\0"), "/source"),
    (stored(2, visitor="ann"), "/visitor"),
    (stored(2, digest=None), "/digest"),
    (stored(1), "/position"),
    (stored(0), "/position"),
    (stored(-7), "/position"),
    (stored(LAST_OF_ALL), "/position"),
    (stored(2**70), "/position"),
    (stored(1_000_000_002), "/position"),
    (b'{"position": 2', ""),
    (b"\xff", ""),
    (b"null", ""),
]


async def test_what_is_wrong_is_refused_by_name_and_what_is_beside_it_restored(
    client: Client, database: Connection
) -> None:
    status, answer = await restore(client, stored(1), *(wrong for wrong, _ in WRONG), stored(3))
    assert status == 207, answer
    assert answer["restored"] == 2
    named = [(item["index"], item["error"]["pointer"]) for item in answer["refused"]]
    assert named == [(number, f"/{number}{pointer}") for number, (_, pointer) in enumerate(WRONG, 1)]
    assert all(item["error"]["detail"] for item in answer["refused"])
    assert await positions(database) == [1, 3]
    assert (await post(client, event()))[0]["position"] == 4


async def test_where_all_is_wrong_nothing_is_restored(client: Client, database: Connection) -> None:
    status, answer = await restore(client, *(wrong for wrong, _ in WRONG if wrong != stored(1)))
    assert (status, answer["title"]) == (422, "No event was restored")
    assert len(answer["refused"]) == len(answer["errors"]) == len(WRONG) - 1
    assert await positions(database) == []


async def test_an_event_twice_in_a_request_is_restored_once(client: Client, database: Connection) -> None:
    first = stored(1)
    status, answer = await restore(client, first, first | {"position": 2}, stored(3))
    assert (status, answer["restored"]) == (207, 2)
    assert answer["refused"][0]["error"]["pointer"] == "/1/event_id"
    assert await positions(database) == [1, 3]


async def test_an_event_that_is_elsewhere_in_the_log_is_another_log(client: Client, database: Connection) -> None:
    first = stored(1)
    assert (await restore(client, first))[0] == 200
    assert (await restore(client, first | {"position": 2}, stored(3)))[0] == 409
    assert await positions(database) == [1]


async def test_a_tail_may_begin_as_far_on_as_a_log_is_long(client: Client, database: Connection) -> None:
    assert await restore(client, stored(1_000_000_000)) == (200, {"restored": 1})
    assert await restore(client, stored(2_000_000_000)) == (200, {"restored": 1})
    assert (await post(client, event()))[0]["position"] == 2_000_000_001


RESTORE = """
SELECT restore_events(ARRAY[$1::bigint], ARRAY[gen_random_uuid()], '{x_a}', '{1}', '{now}', '{now}', '{null}', '{null}',
                      '{null}', '{null}', '{tests}', ARRAY['{}'::jsonb], ARRAY[gen_random_uuid()])
"""


async def test_the_database_bounds_the_gap_by_itself(database: Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="1000000001 is more than 1000000000 after"):
        await database.execute(RESTORE, 1_000_000_001)
    assert await database.fetchval(RESTORE, 1_000_000_000) == 1
    assert await positions(database) == [1_000_000_000]


class OlderData(Data, frozen=True, kw_only=True):
    level: float


class Older(Event, frozen=True, kw_only=True, tag="zoomed"):
    schema_version: ClassVar[int] = 2
    data: OlderData


async def test_an_older_event_is_judged_by_its_own_version_and_stays_as_it_was(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENT_TYPES, "zoomed", Older)
    monkeypatch.setitem(stored_events.UPCASTS, ("zoomed", 1), lambda data: {"level": data["percent"] / 100})
    good, current = stored(1, "zoomed", {"percent": 50}), stored(6, "zoomed", {"level": 1}, schema_version=2)
    bad: list[JsonObject] = [
        stored(2, "zoomed", {"level": 1}),  # of version 2
        stored(3, "zoomed", {"percent": "all"}),
        stored(4, "zoomed", {"percent": 50}, schema_version=2),
        stored(5, "zoomed", {"level": 1}, schema_version=3),
    ]
    status, answer = await restore(client, good, *bad, current)
    assert (status, answer["restored"]) == (207, 2)
    assert [item["index"] for item in answer["refused"]] == [1, 2, 3, 4]
    kept = await database.fetch("SELECT schema_version, data FROM event_log ORDER BY position")
    assert [(row["schema_version"], row["data"]) for row in kept] == [(1, {"percent": 50}), (2, {"level": 1})]


async def test_what_is_masked_today_is_restored_as_it_was(client: Client, database: Connection) -> None:
    was = {"page": "/people/ann@example.org?token=1#top"}
    assert await restore(client, stored(1, data=was)) == (200, {"restored": 1})
    assert await database.fetchval("SELECT data FROM event_log") == was


class Exported(NamedTuple):
    """A log of every kind of event: the lines of its export, and its rows by position."""

    lines: list[JsonObject]
    rows: dict[int, str]


@pytest.fixture
async def exported(client: Client, database: Connection) -> Exported:
    """Make a log of every kind of event."""
    made = [event(), event("x_mine", data={"n": [1, 1e300, {"é": None}]}), event("probe_viewed"), registered("gc_ms")]
    made += [event("visitor_erased", data={}), event("control_changed", data={"control": "a", "value": 1e308})]
    await post(client, *made)
    await drained_projections(database)
    await database.execute("SELECT request_build('fog', 'nightly', 'gc_ms'), nextval('event_position')")
    await database.execute("SELECT set_hotlist_rule('Any product', 'any probe', 'pinned', 'because')")
    lines = [json.loads(line) for line in (await (await client.get("/v1/events")).read()).splitlines()]
    assert [line["position"] for line in lines] == [*range(1, 8), 9]
    return Exported(lines, await by_position(database))


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(sorted(stored(1)))
CHANGES = st.dictionaries(FIELDS, GARBAGE, min_size=1, max_size=2)
BROKEN = st.binary(max_size=20).map(lambda line: b"{" + line.replace(b"\n", b""))


@FEW
@given(data=st.data())
async def test_of_any_garbage_only_itself_is_refused(
    client: Client, database: Connection, exported: Exported, data: st.DataObject
) -> None:
    """A line that is changed at random is refused or is an event; those beside it come back as they were."""
    before = exported.rows
    await empty(database)
    lines: list[object] = []
    untouched = []
    for line in exported.lines:
        kind = data.draw(st.sampled_from(["as it was", "changed", "broken"]))
        if kind == "as it was":
            untouched.append(line["position"])
            lines.append(line)
        elif kind == "broken":
            lines.append(data.draw(BROKEN))
        else:
            changed = {
                name: value for name, value in data.draw(CHANGES).items() if name not in ("position", "event_id")
            }
            lines.append(line | (changed or {"data": None}))
    status, answer = await restore(client, *lines)
    after = await by_position(database)
    assert status in (200, 207, 422), answer
    assert {position: after[position] for position in untouched} == {
        position: before[position] for position in untouched
    }
    assert len(after) == answer.get("restored", 0) == len(lines) - len(answer.get("refused", []))
    await post(client, event())  # and it can still be recorded


@FEW
@given(data=st.data())
async def test_any_log_comes_back_as_it_was(
    client: Client, database: Connection, exported: Exported, data: st.DataObject
) -> None:
    """In whatever pieces, and pieces of it again."""
    await empty(database)
    cut = data.draw(st.integers(0, len(exported.lines)))
    again = data.draw(st.integers(0, cut))
    for piece in (exported.lines[:cut], exported.lines[again:]):
        if piece:
            status, answer = await restore(client, *piece)
            assert status == 200, answer
    assert await by_position(database) == exported.rows


async def test_the_importer_names_the_line_and_goes_on(client: Client, database: Connection, tmp_path: Path) -> None:
    path = tmp_path / "log.ndjson"
    made: list[JsonObject] = [stored(1), stored(2, "probe_viewed", {"found": "zzz"}), stored(3)]
    path.write_text("\n".join(map(json.dumps, made)) + "\n")
    for status in ("restored", "duplicate"):  # and says the same when it is run again
        stats = await import_file(path, str(client.make_url("/")), None)
        assert stats.statuses == {status: 2, "refused": 1}
        assert stats.refusals == ["log.ndjson:2: data/found: Expected `bool`, got `str`"]
    assert await positions(database) == [1, 3]


async def test_what_the_log_has_passed_is_not_filled_and_takes_nothing_with_it(
    client: Client, database: Connection
) -> None:
    first, mended, third = stored(1), stored(2), stored(3)
    await restore(client, first, third)
    status, answer = await restore(client, first, mended, third, stored(4))
    assert (status, answer["restored"]) == (207, 1)
    [item] = answer["refused"]
    assert item["error"]["pointer"] == "/1/position"
    assert "before 3, the log's end" in item["error"]["detail"]
    assert await positions(database) == [1, 3, 4]
    assert (await restore(client, first, stored(3, event_id=str(UUID(int=99))), stored(5)))[0] == 409  # another log
    assert await positions(database) == [1, 3, 4]


@pytest.fixture
async def own_client(own_database_url: str, start: Start) -> Client:
    return await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))


async def strand(database: Connection, position: int) -> None:
    """Put an event where restoring once took it."""
    await database.execute(
        "INSERT INTO event_log (position, event_id, type, occurred_at, recorded_at, source, data, digest)"
        " VALUES ($1, gen_random_uuid(), 'x_far', now(), now(), 'tests', '{}', gen_random_uuid())",
        position,
    )
    await database.execute("SELECT setval('event_position', last_position())")


async def test_a_log_at_the_end_of_all_positions_blames_no_event_and_has_a_way_back(
    own_client: Client, own_database: Connection
) -> None:
    await append_traffic(own_database, 300)
    await strand(own_database, LAST_OF_ALL)
    sent = event()
    refused = await own_client.post("/v1/events", json=[sent])
    assert refused.status == 503, await refused.text()
    assert "end of all positions" in await (await own_client.get("/__heartbeat__")).text()
    before = await own_database.fetch("SELECT event_id, type, data, recorded_at FROM event_log ORDER BY position")
    [closed] = await own_database.fetch("SELECT * FROM close_gap()")
    assert tuple(closed) == (300, 1, 302)
    after = await own_database.fetch("SELECT event_id, type, data, recorded_at FROM event_log ORDER BY position")
    assert after[:-1] == before
    assert await positions(own_database) == list(range(1, 303))
    assert [item["position"] for item in await post(own_client, sent)] == [303]
    await drained_projections(own_database)  # the server folds
    await assert_as_the_reference(own_database)


async def test_a_gap_is_closed_whatever_has_come_how_far(own_database: Connection) -> None:
    """Projections before, in and behind the gap go on to the same; so do builds and rules."""
    far = 5 * 10**12
    await append_traffic(own_database, 200)
    await own_database.execute("UPDATE projections SET position = 0")
    await fold_all(own_database)
    await strand(own_database, far)
    await append_traffic(own_database, 100)
    await own_database.execute("SELECT set_hotlist_rule('fog', 'gc_ms', 'pinned', '')")
    await own_database.execute("SELECT set_hidden_probes('gc_*', 'fog', true, '')")
    await own_database.execute("UPDATE projections SET position = $1 WHERE name = 'releases'", far // 2)
    await own_database.execute("UPDATE projections SET position = $1 WHERE name IN ('journeys', 'sessions')", far - 1)
    for name in ("journeys", "sessions"):
        await own_database.execute("SELECT advance_projection($1, 41)", name)
    await own_database.execute("SELECT close_gap()")
    placed = {row[0]: row[1] for row in await own_database.fetch("SELECT name, position FROM projections")}
    assert placed == {
        "build_costs": 200, "catalogue": 200, "journeys": 241, "popularity": 200, "releases": 200, "sessions": 241,
        "timeseries": 200,
    }  # fmt: skip
    assert await own_database.fetchval("SELECT log_position FROM hotlist_rules") == 302
    assert await own_database.fetchval("SELECT max(log_position) FROM hidden_probes") == 303
    assert await positions(own_database) == list(range(1, 305))
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    assert (await verify(own_database, "sessions", ignore)).equal


async def test_whatever_remembers_a_position_is_known_by_the_name_of_its_column(database: Connection) -> None:
    """Columns of these names go along when a gap is closed. Name a new one so too, or teach close_gap().

    What a mirror has cannot go along: it refuses to close a gap that a mirror is behind.
    """
    names = await database.fetch("""
        SELECT DISTINCT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.atttypid = 'bigint'::regtype
          AND (a.attname LIKE '%position%' OR c.relname LIKE 'projection%') AND c.relname <> 'mirror_loads' ORDER BY 1
    """)
    assert [row[0] for row in names] == ["changed_at", "failed_after", "log_position", "position"]


async def test_a_gap_that_restoring_allows_is_left(own_database: Connection) -> None:
    await append_traffic(own_database, 3)
    await own_database.execute("SELECT setval('event_position', 900000000)")
    await append_traffic(own_database, 3)
    before = await rows(own_database)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="has no gap larger"):
        await own_database.execute("SELECT close_gap()")
    assert await rows(own_database) == before


async def test_none_but_the_owner_closes_a_gap(database: Connection) -> None:
    for role in ("usage_server", "usage_builder", "usage_reader", "usage_projections"):
        assert not await database.fetchval("SELECT has_function_privilege($1, 'close_gap()', 'EXECUTE')", role)
