"""GET /v1/builds: filtered, newest first; following `next` shows every build once, whatever is asked for meanwhile."""

from __future__ import annotations

from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from hypothesis import given
from hypothesis import strategies as st

from tests.support.building import bring_to, claim
from tests.support.servers import Client, Connection, JsonObject
from usage_service.builds.listing import BuildCursor
from usage_service.cursors import YEAR_3000

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def builds(database: Connection) -> list[UUID]:
    """Add builds of twelve probes on two channels, four at each instant; return them newest first."""
    await database.execute("""
        SELECT request_build('fog', channel, 'probe_' || number)
        FROM generate_series(0, 11) number, unnest('{nightly,beta}'::text[]) channel
    """)
    await database.execute("""
        UPDATE builds SET requested_at = '2026-11-24T10:00:00.123456Z'::timestamptz
                          + split_part(probe, '_', 2)::integer / 2 * interval '1 us'
    """)
    rows = await database.fetch("SELECT build_id FROM builds ORDER BY requested_at DESC, build_id")
    return [row["build_id"] for row in rows]


async def get(client: Client, path: str) -> tuple[ClientResponse, JsonObject]:
    response = await client.get(path)
    body: JsonObject = await response.json()
    assert response.status == 200, body
    return response, body


def ids(body: JsonObject) -> list[UUID]:
    return [UUID(build["build_id"]) for build in body["builds"]]


async def followed(client: Client, path: str) -> list[list[UUID]]:
    """Follow `next` from a path on, and return the ids of each page."""
    pages = []
    while path:
        response, body = await get(client, path)
        pages.append(ids(body))
        path = body["next"]
        assert response.headers.get("Link") == (f'<{path}>; rel="next"' if path else None)
    return pages


@pytest.mark.parametrize("limit", [1, 3, 5, 23, 24, 25])
async def test_the_pages_are_the_list(client: Client, builds: list[UUID], limit: int) -> None:
    pages = await followed(client, f"/v1/builds?limit={limit}")
    assert [build for page in pages for build in page] == builds
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert pages[-1]


async def test_new_builds_and_transitions_move_nothing(
    client: Client, database: Connection, builds: list[UUID]
) -> None:
    _, body = await get(client, "/v1/builds?limit=4")
    seen = ids(body)
    for number in range(20):
        await database.execute("SELECT request_build('fog', $1, 'probe_0')", f"channel-{number}")
        claimed = await database.fetchrow("SELECT build_id FROM claim_build('w', interval '1 h')")
        assert claimed is not None
        if body["next"]:
            _, body = await get(client, body["next"])
            seen += ids(body)
    assert seen == builds
    assert not set(ids((await get(client, "/v1/builds?limit=20"))[1])) & set(builds)


async def test_filters_are_kept_from_page_to_page(client: Client, database: Connection, builds: list[UUID]) -> None:
    for _ in range(5):
        await database.execute("SELECT claim_build('w', interval '1 h')")
    for query in ("state=running", "channel=beta", "probe=probe_3", "product=fog&channel=nightly&state=queued"):
        wanted = dict(part.split("=") for part in query.split("&"))
        rows = await database.fetch("SELECT * FROM builds ORDER BY requested_at DESC, build_id")
        expected = [row["build_id"] for row in rows if wanted.items() <= dict(row).items()]
        pages = await followed(client, f"/v1/builds?{query}&limit=2")
        assert [build for page in pages for build in page] == expected
        assert expected
    assert (await get(client, "/v1/builds?product=fenix"))[1] == {"builds": [], "next": None}


async def test_each_is_as_it_is_when_it_is_read(client: Client, database: Connection, builds: list[UUID]) -> None:
    row = await database.fetchrow("SELECT build_id FROM builds ORDER BY not_before LIMIT 1")
    assert row is not None
    await bring_to(database, row["build_id"], "progressed", await claim(database, row["build_id"]))
    response, body = await get(client, "/v1/builds?state=running")
    assert body["builds"] == [await (await client.get(f"/v1/builds/{row['build_id']}")).json()]
    assert body["builds"][0]["percent"] == 50
    assert int(response.headers["Log-Position"]) == await database.fetchval("SELECT last_position()")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=done", "state"),
        ("state=", "state"),
        ("product=F", "product"),
        ("channel=%00", "channel"),
        ("probe=a%2Fb", "probe"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("colour=red", "colour"),
        ("cursor=", "cursor"),
        ("cursor=a", "cursor"),
        ("cursor=!!!", "cursor"),
        ("cursor=bm9uc2Vuc2U", "cursor"),
        ("cursor=WzEsIDJd", "cursor"),
        ("cursor=_____w", "cursor"),
        ("cursor=" + "a" * 101, "cursor"),
    ],
)
async def test_a_wrong_parameter_is_422_and_named(client: Client, query: str, parameter: str) -> None:
    response = await client.get(f"/v1/builds?{query}")
    body = await response.json()
    assert (response.status, [error["parameter"] for error in body["errors"]]) == (422, [parameter])


@given(st.integers(0, YEAR_3000), st.uuids())
async def test_a_cursor_is_read_as_it_was_written(microseconds: int, build_id: UUID) -> None:
    cursor = BuildCursor(microseconds, build_id)
    assert BuildCursor.parse(str(cursor)) == cursor
    assert cursor.instant.tzinfo is not None
