"""Sessions tell which tool people came from and their role in the workflow, whatever a referrer looks like."""

from __future__ import annotations

import pytest

from tests.support import reference
from tests.support.servers import Client, Connection, event, post
from tests.support.traffic import fold_all
from usage_service.ingest.masking import Masking

CAME = "https://sql.telemetry.mozilla.org/"


async def test_a_referrer_of_any_shape_is_understood(client: Client, database: Connection) -> None:
    shapes = [referrer for referrer in reference.ORIGINS if referrer is not None]
    visits = [event(data={"page": "/", "referrer": referrer}, visitor=referrer or "nobody") for referrer in shapes]
    await post(client, *visits, event(visitor="from nowhere"))
    await fold_all(database)
    rows = await database.fetch("SELECT (entry).referrer, came_from FROM sessions")
    # Queries, fragments and names of users are dropped at the door; where somebody came from is not theirs to tell.
    stored = {referrer and Masking().mask_address(referrer): tool for referrer, tool in reference.ORIGINS.items()}
    assert {row["referrer"]: row["came_from"] for row in rows} == stored


async def test_the_first_page_tells_where_a_session_came_from(client: Client, database: Connection) -> None:
    """It does so whichever event arrives first; later pages, such as a reload after a search, do not count."""
    later = event(data={"page": "/b", "referrer": "https://www.google.com/"}, occurred_at="2026-11-20T12:01:00Z")
    await post(client, later)
    await fold_all(database)
    assert await sessions(database) == [("Google", "endpoint")]
    await post(client, event(data={"page": "/a", "referrer": CAME}, occurred_at="2026-11-20T12:00:00Z"))
    await fold_all(database)
    assert await sessions(database) == [("STMO", "endpoint")]
    await post(client, event("link_followed", data={"tool": "Looker", "url": "https://looker.com"}))
    await fold_all(database)
    assert await sessions(database) == [("STMO", "in_between")]


@pytest.mark.parametrize(
    ("referrer", "leaves", "role"),
    [(None, False, "whole"), (None, True, "starting_point"), (CAME, False, "endpoint"), (CAME, True, "in_between")],
)
async def test_roles(client: Client, database: Connection, referrer: str | None, leaves: bool, role: str) -> None:
    page = {"page": "/"} | ({"referrer": referrer} if referrer else {})
    left = [event("link_followed", data={"tool": "Looker"})] if leaves else []
    await post(client, event(data=page), *left)
    await fold_all(database)
    assert [found for _origin, found in await sessions(database)] == [role]


async def test_a_long_referrer_takes_no_time(database: Connection) -> None:
    """The regular expression does not backtrack."""
    for part in ("a" * 2_000, "a@" * 1_000, "a:" * 1_000, "." * 2_000, "a." * 1_000, "/" * 2_000):
        await database.execute("SET statement_timeout = '1s'")
        await database.fetchval("SELECT referrer_host($1), referrer_host('https://' || $1)", part)


async def sessions(database: Connection) -> list[tuple[str | None, str]]:
    rows = await database.fetch("SELECT came_from, role FROM sessions ORDER BY visitor, started_at")
    return [(row["came_from"], row["role"]) for row in rows]


async def test_the_answer_says_it(client: Client, database: Connection) -> None:
    await post(
        client,
        event(data={"page": "/", "referrer": CAME}),
        event("link_followed", data={"tool": "Looker", "url": "https://looker.com"}),
    )
    await fold_all(database)
    answer = await client.get("/v1/sessions", params={"since": "2026-11-20T00:00:00Z", "until": "2026-11-21T00:00:00Z"})
    [session] = (await answer.json())["sessions"]
    assert (session["referrer"], session["came_from"], session["role"]) == (CAME, "STMO", "in_between")
    assert session["tools_left"] == ["Looker"]
