"""Projections are folded together, in one transaction after one look at the log, and apart where they have to be."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.conftest import SECRET, Start
from tests.support.poison import BROKEN
from tests.support.servers import Client, Connection, connected, drained_projections, event, eventually, post
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, records
from usage_service.events import EVENT_TYPES, OWN_TYPES
from usage_service.ingest.appending import append
from usage_service.projections import runner
from usage_service.projections.pace import PATIENT_PROJECTIONS
from usage_service.shared.settings import ServerSettings

TOGETHER = "SELECT name, was_at, now_at, log_end, set_aside FROM advance_together($1, $2)"
SOURCE = "SELECT prosrc FROM pg_proc WHERE proname = 'fold_' || $1"


async def folded(database: Connection, size: int, names: list[str] = PROJECTIONS) -> dict[str, tuple[int, ...]]:
    """Fold a batch of each together; return of each where it was and is, the end of the log, and what it set aside."""
    return {row[0]: tuple(row)[1:] for row in await database.fetch(TOGETHER, names, size)}


async def test_all_move_alike_and_hold_what_each_alone_would(own_database: Connection) -> None:
    end = await append_traffic(own_database, 200)
    assert await folded(own_database, 150) == dict.fromkeys(PROJECTIONS, (0, 150, end, 0))
    assert await folded(own_database, 150) == dict.fromkeys(PROJECTIONS, (150, end, end, 0))
    assert await folded(own_database, 150) == dict.fromkeys(PROJECTIONS, (end, end, end, 0))
    await assert_as_the_reference(own_database)


async def test_at_the_end_of_the_log_nothing_is_held_and_nothing_written(own_database: Connection) -> None:
    """Nobody who wants to fold, to swap or to verify comes at the wrong moment of a server that only looks."""
    end = await append_traffic(own_database, 20)
    await folded(own_database, 100)
    async with own_database.transaction():
        assert await folded(own_database, 100) == dict.fromkeys(PROJECTIONS, (end, end, end, 0))
        assert await own_database.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_who_is_a_little_behind_comes_along_and_who_is_far_behind_does_not(own_database: Connection) -> None:
    end = await append_traffic(own_database, 120)
    await own_database.execute("SELECT advance_projection('sessions', 90), advance_projection('journeys', 60)")
    moved = await folded(own_database, 50)
    assert {moved.pop("sessions"), moved.pop("journeys")} == {(90, end, end, 0), (60, end, end, 0)}
    assert set(moved.values()) == {(0, 0, end, 0)}


async def test_who_is_folded_by_somebody_else_is_left_out(own_database: Connection, own_database_url: str) -> None:
    end = await append_traffic(own_database, 20)
    async with connected(own_database_url) as other, other.transaction():
        await other.execute("SELECT advance_projection('popularity', 10)")
        moved = await folded(own_database, 100)
    assert moved.pop("popularity") == (0, 0, end, 0)
    assert set(moved.values()) == {(0, end, end, 0)}


async def test_who_has_nothing_to_do_is_not_asked(own_database: Connection) -> None:
    """The broken fold of releases would fail."""
    await own_database.execute(BROKEN.replace('{"version": 9999}', "{}"))
    await append(own_database, records([event("page_viewed"), event("x_mine")]))
    before = await own_database.fetchval("SELECT changed_at FROM projections WHERE name = 'releases'")
    assert (await folded(own_database, 100))["releases"] == (0, 2, 2, 0)
    assert await own_database.fetchval("SELECT changed_at FROM projections WHERE name = 'releases'") == before


async def move_together(client: Client, database: Connection, projections: list[str]) -> bool:
    """Return whether these come to the next event in one transaction."""
    await post(client, event())
    await drained_projections(database)
    transactions = "SELECT count(DISTINCT xmin::text) FROM projections WHERE name = ANY ($1)"
    return bool(await database.fetchval(transactions, projections) == 1)


async def test_who_is_far_behind_catches_up_apart_and_joins_the_others(
    own_database: Connection, own_database_url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "BATCH_POSITIONS", 10)
    await append_traffic(own_database, 200)
    await own_database.execute("SELECT advance_projection('sessions', 150), advance_projection('journeys', 150)")
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    await drained_projections(own_database)
    await assert_as_the_reference(own_database)
    eager = [name for name in PROJECTIONS if name not in PATIENT_PROJECTIONS]
    for together in (eager, sorted(PATIENT_PROJECTIONS)):
        await eventually(partial(move_together, client, own_database, together), "they move together")
    await assert_as_the_reference(own_database)


@pytest.mark.parametrize("projection", PROJECTIONS)
async def test_the_types_that_a_projection_folds_are_those_of_its_fold(database: Connection, projection: str) -> None:
    types = await database.fetchval("SELECT folded_types($1)", projection)
    source = await database.fetchval(SOURCE, projection)
    named = {kind for kind in EVENT_TYPES.keys() | OWN_TYPES if re.search(rf"'{kind}'", source)}
    if types is None:
        assert "x\\_%" in source
    else:
        assert (set(types), "x\\_%" in source) == (named, False)
