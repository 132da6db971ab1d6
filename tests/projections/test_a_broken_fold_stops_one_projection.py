"""What is no event's fault stops a projection, exactly before the event, until the cause is gone; others go on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.conftest import SECRET, Start
from tests.support.poison import BROKEN, MENDED
from tests.support.servers import Client, Connection, event, eventually, post
from tests.support.traffic import append_traffic, assert_as_the_reference, fold_all, ignore
from usage_service.projections import runner
from usage_service.projections.rebuilding import add, verify
from usage_service.projections.runner import Folder, UnfoldableError
from usage_service.shared.settings import ServerSettings

APPEND_FATAL = """
SELECT append_own_event('release_published', 'fog', 'nightly', NULL, 'test', '{"version": 9999}')
"""
STATUS = "SELECT * FROM projection_status WHERE name = $1 AND stage = 'live'"
# The error of a name that is missing must not look as if the projection were gone.
OWN = """
CREATE TABLE shares (position bigint PRIMARY KEY, share float8 NOT NULL);
CREATE FUNCTION fold_shares(after_position bigint, to_position bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM event_log WHERE position > after_position AND position <= to_position
               AND data @> '{"role": "unknown"}') THEN
        RAISE undefined_object USING MESSAGE = 'role "unknown" does not exist';
    END IF;
    INSERT INTO shares SELECT position, 100 / (data ->> 'parts')::integer FROM event_log
    WHERE position > after_position AND position <= to_position AND type = 'x_shared';
END $$;
"""


def released(version: int) -> dict[str, Any]:
    return event("release_published", visitor=None, channel="nightly", data={"version": version})


@pytest.fixture
async def own_client(own_database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Start a service on a database of the test's own, which soon tries again."""
    monkeypatch.setattr(runner, "AFTER_FAILURE_SECONDS", 0.2)
    return await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))


async def is_stuck(database: Connection, projection: str, position: int) -> bool:
    row = await database.fetchrow(STATUS, projection)
    return row is not None and row["failed_after"] == position


async def is_up(database: Connection, *projections: str) -> bool:
    """Return whether these are at the end of the log, and nothing is wrong with them."""
    rows = [await database.fetchrow(STATUS, projection) for projection in projections]
    return all(row is not None and row["behind"] == 0 and row["error"] is None for row in rows)


async def test_one_stops_before_it_and_resumes_by_itself(own_client: Client, own_database: Connection) -> None:
    await own_database.execute(BROKEN)
    await post(own_client, *(released(version) for version in range(10)), released(9999), released(10), event())
    await eventually(partial(is_stuck, own_database, "releases", 10), "it stands before the event")
    row = await own_database.fetchrow(STATUS, "releases")
    assert row is not None
    assert (row["position"], row["behind"]) == (10, 3)
    assert "versions" in row["error"]
    assert row["behind_seconds"] > 0
    assert await own_database.fetchval("SELECT array_agg(version ORDER BY version) FROM releases") == list(range(10))

    await post(own_client, event("probe_viewed"), released(11))
    await eventually(partial(is_up, own_database, "sessions", "popularity", "catalogue"), "the others go on")
    again = await own_database.fetchrow(STATUS, "releases")
    assert again is not None
    assert (again["failed_at"], again["failed_after"]) == (row["failed_at"], 10)

    await own_database.execute(MENDED)
    await eventually(partial(is_up, own_database, "releases"), "it goes on by itself")
    versions = await own_database.fetchval("SELECT array_agg(version ORDER BY version) FROM releases")
    assert versions == [*range(12), 9999]
    row = await own_database.fetchrow("SELECT failed_at, failed_after, error FROM projections WHERE name = 'releases'")
    assert row is not None
    assert tuple(row) == (None, None, None)


async def test_new_events_do_not_make_it_try_again_at_once(
    own_database: Connection, own_database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AFTER_FAILURE_SECONDS", 600)
    await own_database.execute(BROKEN)
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    with capture_logs() as logs:
        await post(client, released(9999))
        await eventually(partial(is_stuck, own_database, "releases", 0), "it stands before the event")
        for _ in range(10):
            await post(client, event())
            await eventually(partial(is_up, own_database, "sessions"), "the others go on")
    assert [entry["event"] for entry in logs].count("projection_failed") <= 2


async def test_who_fails_late_notes_nothing(own_database: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that one process knows of its failure another may have folded the event."""
    await own_database.execute(BROKEN)
    await own_database.execute(APPEND_FATAL)
    note = Folder._unfoldable

    async def note_late(self: Folder, connection: Connection, position: int, why: str) -> UnfoldableError:
        await own_database.execute(MENDED)
        await own_database.execute("SELECT advance_projection('releases', 10)")
        return await note(self, connection, position, why)

    monkeypatch.setattr(Folder, "_unfoldable", note_late)
    with pytest.raises(UnfoldableError):
        await Folder("releases").fold(own_database)
    assert await is_up(own_database, "releases")


async def test_a_fold_of_ones_own_that_fails(own_client: Client, own_database: Connection, tmp_path: Path) -> None:
    await add(own_database, tmp_path / "shares.sql", OWN, ignore)
    await post(own_client, event("x_shared", data={"parts": 4}), event("x_mine", data={"role": "unknown"}), event())
    await eventually(partial(is_stuck, own_database, "shares", 1), "it stands before what fails")
    await eventually(partial(is_up, own_database, "sessions", "popularity"), "the others go on")
    assert "does not exist" in await own_database.fetchval("SELECT error FROM projections WHERE name = 'shares'")
    fixed = OWN.replace('"unknown"', '"nobody"')
    assert await add(own_database, tmp_path / "shares.sql", fixed, ignore) == (3, 0)
    await eventually(partial(is_up, own_database, "shares"), "its replacement is up")
    assert [tuple(row) for row in await own_database.fetch("SELECT * FROM shares.shares")] == [(1, 25)]


async def test_any_data_of_an_event_of_the_apps_own_can_be_folded(client: Client, database: Connection) -> None:
    """Its fields may be named as those of other types, and hold something else."""
    odd = [
        {"bot": "maybe"},
        {"bot": 3},
        {"bot": [True]},
        {"found": "x"},
        {"referrer": 1},
        {"control": {}},
        {"version": "z"},
    ]
    await post(
        client, *(event("x_mine", data=data, probe="gc_ms") for data in odd), event("x_mine", data={"bot": True})
    )
    await fold_all(database)
    assert [tuple(row) for row in await database.fetch("SELECT events, bot FROM sessions")] == [(8, True)]
    await assert_as_the_reference(database)


async def test_a_verification_reaches_as_far_as_what_is_stuck(own_database: Connection) -> None:
    await own_database.execute(BROKEN)
    await append_traffic(own_database, 20)
    await own_database.execute(APPEND_FATAL)
    await append_traffic(own_database, 20)
    folder = Folder("releases")
    await folder.fold(own_database)
    with pytest.raises(UnfoldableError, match=r"releases cannot go on after position 20: .*versions"):
        await folder.fold(own_database)
    verdict = await verify(own_database, "releases", ignore)
    assert verdict.equal
    assert verdict.position == 20


async def test_a_failure_at_a_position_that_was_left_is_not_noted(database: Connection, client: Client) -> None:
    await post(client, event(), event())
    await fold_all(database)
    for stale in (0, 1, 3):
        await database.execute("SELECT fail_projection('sessions', 'live', $1, 'too late')", stale)
    await database.execute("SELECT fail_projection('sessions', 'verify', 2, 'there is none')")
    assert await is_up(database, "sessions")
    await database.execute("SELECT fail_projection('sessions', 'live', 2, 'in time')")
    assert await is_stuck(database, "sessions", 2)
    await post(client, event())
    await fold_all(database)
    assert await is_up(database, "sessions")
