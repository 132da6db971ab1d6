"""Every answer from projections says up to where it has seen the log, has a tag that changes when it may, and waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest
from aiohttp import ClientResponse
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Start
from tests.support.servers import Client, Connection, JsonObject, event, eventually, post, registered
from usage_service.problems import Problem
from usage_service.shared.postgres import connect
from usage_service.shared.settings import ServerSettings
from usage_service.web.api import popularity
from usage_service.web.etags import entity_tag, is_matched
from usage_service.windows import time_range_between

SPAN = "since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"
UNTIL = "until=2026-12-01T00:00:00Z"
POPULARITY = f"/v1/popularity?{SPAN}"
RELEASE = event("release_published", channel="nightly", visitor=None, data={"version": 121})
# A question, an event that changes its answer, and one that cannot.
CASES: list[tuple[str, JsonObject, JsonObject]] = [
    (POPULARITY, event("probe_viewed"), registered("other")),
    (f"{POPULARITY}&order=least", registered("other"), event("page_viewed")),
    (f"/v1/hotlist?{UNTIL}", event("probe_viewed"), event("page_viewed")),
    (f"/v1/sessions?{SPAN}", event("page_viewed"), registered("other")),
    (f"/v1/sessions/summary?{SPAN}", event("page_viewed"), registered("other")),
    (f"/v1/journeys?{SPAN}", event("page_viewed"), registered("other")),
    (f"/v1/timeseries?product=fog&{SPAN}", event("probe_viewed"), event("page_viewed")),
    ("/v1/releases/impact?days=7", RELEASE, event("page_viewed")),
]
Drained = Callable[[], Awaitable[None]]


def anew(item: JsonObject) -> JsonObject:
    return item | {"event_id": event()["event_id"]}


async def get(client: Client, path: str, tag: str | None = None) -> ClientResponse:
    response = await client.get(path, headers={"If-None-Match": tag} if tag else {})
    await response.read()
    return response


NO_LOCK = """
CREATE OR REPLACE FUNCTION lock_projection(projection text, at_stage text, OUT locked boolean) LANGUAGE sql
AS 'SELECT false'
"""


def position(response: ClientResponse) -> int:
    return int(response.headers["Log-Position"])


@asynccontextmanager
async def frozen(database_url: str, projection: str) -> AsyncIterator[None]:
    """Keep everybody from folding the projection meanwhile."""
    connection = await connect(database_url, application="tests")
    try:
        async with connection.transaction():
            held = partial(connection.fetchval, "SELECT lock_projection($1, 'live')", projection)
            await eventually(held, f"nobody else folds {projection}")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def never_locked(database: Connection) -> AsyncIterator[None]:
    """Keep everybody from folding a projection meanwhile, so that the test may change their rows."""
    definition = await database.fetchval("SELECT pg_get_functiondef('lock_projection(text, text)'::regprocedure)")
    await database.execute(NO_LOCK)
    try:
        yield
    finally:
        await database.execute(definition)


@pytest.mark.parametrize(
    ("path", "relevant", "irrelevant"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_304_as_long_as_nothing_changes_that_is_seen(
    client: Client, drained: Drained, path: str, relevant: JsonObject, irrelevant: JsonObject
) -> None:
    await post(client, event("probe_viewed"))
    await drained()
    first = await get(client, path)
    assert (first.status, first.headers["Cache-Control"], position(first)) == (200, "no-cache", 1)
    tag = first.headers["ETag"]

    await post(client, anew(irrelevant))
    await drained()
    same = await get(client, path, tag)
    assert (same.status, await same.read(), position(same)) == (304, b"", 2)
    assert (same.headers["ETag"], same.headers["Cache-Control"]) == (tag, "no-cache")
    assert await (await get(client, path)).read() == await first.read()

    await post(client, anew(relevant))
    await drained()
    other = await get(client, path, tag)
    assert (other.status, position(other)) == (200, 3)
    assert other.headers["ETag"] != tag
    assert await other.read() != await first.read()


async def test_a_rebuild_is_another_answer(client: Client, database: Connection) -> None:
    tag = (await get(client, POPULARITY)).headers["ETag"]
    await database.execute("UPDATE projections SET generation = gen_random_uuid() WHERE name = 'popularity'")
    assert (await get(client, POPULARITY, tag)).status == 200


async def test_a_probe_has_another_tag_when_it_is_built_anew(client: Client, database: Connection) -> None:
    path = "/v1/probes/fog/gc_ms?channel=nightly"
    await post(client, registered("gc_ms"))
    missing = await get(client, f"{path}&at_least=1")
    assert (missing.status, position(missing), "ETag" in missing.headers) == (404, 1, False)
    tags = []
    for _ in range(2):
        await database.execute("UPDATE builds SET finished_at = finished_at - interval '1 day'")
        end = await build(client, database)
        first = await get(client, f"{path}&at_least={end}")
        assert first.status == 200
        assert position(first) >= end
        tags.append(first.headers["ETag"])
        assert (await get(client, path, tags[-1])).status == 304
        assert (await get(client, f"{path}&os=Windows", tags[-1])).status == 200
    assert tags[0] != tags[1]


async def build(client: Client, database: Connection) -> int:
    """Have the probe built without a result; return the position of the last event."""
    answer = await client.post("/v1/builds", json={"product": "fog", "channel": "nightly", "probe": "gc_ms"})
    assert answer.status == 202, await answer.text()
    build_id = (await answer.json())["build_id"]
    await database.execute("SELECT claim_build('tests', interval '1 min')")
    await database.execute("SELECT complete_build($1, 1, 0)", build_id)
    return int(await database.fetchval("SELECT log_position FROM builds WHERE build_id = $1", build_id))


async def test_no_two_questions_have_the_same_tag(client: Client) -> None:
    questions = [
        *(f"/v1/{route}?{SPAN}" for route in ("popularity", "sessions")),
        *(f"/v1/{route}?{SPAN}&product=fog" for route in ("popularity", "sessions")),
        *(f"{POPULARITY}&{more}" for more in ("channel=fog", "order=least", "order=trending", "bots=1", "limit=7")),
        *(f"/v1/sessions?{SPAN}&{more}" for more in ("bots=include", "bots=only", "limit=7")),
        f"/v1/hotlist?{UNTIL}",
        *(f"/v1/hotlist?{UNTIL}&{more}" for more in ("product=fog", "budget=7", "coverage=0.5", "format=csv")),
        "/v1/popularity?window=6d&until=2026-12-01T00:00:00Z",
        "/v1/popularity?window=6d&until=2026-12-02T00:00:00Z",
        "/v1/sessions?since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00.000001Z",
    ]
    tags = [(await get(client, question)).headers["ETag"] for question in questions]
    assert len(set(tags)) == len(questions)
    every_tag = ", ".join(tags[1:])
    assert (await get(client, questions[0], every_tag)).status == 200


@pytest.mark.parametrize(
    "same",
    [
        "/v1/popularity?window=30d&until=2026-12-01T00:00:00Z&at_least=0&wait=1",
        "/v1/popularity?until=2026-12-01T05:00:00%2B05:00&since=2026-11-01T00:00:00Z&order=most&limit=50",
        "/v1/popularity?since=2026-11-01T01:00:00Z&until=2026-11-30T23:00:00Z",
    ],
)
async def test_the_same_question_in_other_words_has_the_same_tag(client: Client, same: str) -> None:
    assert (await get(client, same, (await get(client, POPULARITY)).headers["ETag"])).status == 304


@pytest.mark.parametrize(
    ("given_headers", "matched"),
    [
        (["*"], True),
        ([" * "], True),
        (['"a"'], True),
        (['W/"a"'], True),
        (['"b", W/"a"'], True),
        (['"b"', '"c","a"'], True),
        ([], False),
        ([""], False),
        (["a"], False),
        (['"b"'], False),
        (['"*"'], False),
        (['"b, "a'], False),
        (['"A"'], False),
    ],
)
def test_tags_are_compared_weakly(given_headers: list[str], matched: bool) -> None:
    assert is_matched(given_headers, '"a"') == matched


def test_a_tag_is_that_of_all_it_follows_from() -> None:
    tags = {entity_tag(), entity_tag(1), entity_tag("1"), entity_tag(1, 2), entity_tag((1, 2)), entity_tag(None)}
    assert len(tags) == 6
    assert entity_tag(1, None) == entity_tag(1, None)


@pytest.mark.parametrize(
    ("token", "open_reads", "varies"), [(None, False, False), ("secret", True, False), ("secret", False, True)]
)
async def test_an_answer_that_needs_a_token_varies_by_it(
    start: Start, settings: ServerSettings, token: str | None, open_reads: bool, varies: bool
) -> None:
    client = await start(msgspec.structs.replace(settings, token=token, open_reads=open_reads))
    headers = {"Authorization": f"Bearer {token}", "If-None-Match": "*"}
    for response in (
        await client.get(POPULARITY, headers={"Authorization": headers["Authorization"]}),
        await client.get(POPULARITY, headers=headers),
    ):
        assert response.headers.get("Vary") == ("Authorization, Accept" if varies else "Accept")


async def test_304_without_asking_for_the_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = (await get(client, POPULARITY)).headers["ETag"]
    await post(client, registered("other"))

    async def forbidden(*_: object) -> None:
        raise AssertionError("asked for the answer")

    monkeypatch.setattr(popularity, "popular_probes", forbidden)
    assert (await get(client, f"{POPULARITY}&at_least=1", tag)).status == 304
    assert (await get(client, POPULARITY, "*")).status == 304


async def test_what_was_posted_is_read(client: Client) -> None:
    for number in range(1, 6):
        response = await client.post("/v1/events", json=[event("probe_viewed")])
        for path in ("popularity", "hotlist", "sessions"):
            query = UNTIL if path == "hotlist" else SPAN
            answer = await get(client, f"/v1/{path}?{query}&at_least={position(response)}&wait=20")
            assert position(answer) >= position(response)
            body = await answer.json()
            seen = body["sessions"][0]["events"] if path == "sessions" else body["probes"][0].get("views", number)
            assert seen == number


async def test_what_was_posted_to_one_server_is_read_from_the_other(
    client: Client, start: Start, settings: ServerSettings
) -> None:
    servers = [client, await start(settings)]
    for number in range(1, 9):
        one, other = servers if number % 2 else reversed(servers)
        posted = await one.post("/v1/events", json=[event("probe_viewed")])
        assert posted.status == 201
        answer = await get(other, f"{POPULARITY}&at_least={position(posted)}&wait=20")
        [probe] = (await answer.json())["probes"]
        assert (probe["views"], position(answer) >= position(posted)) == (number, True)


async def test_who_waits_is_woken(client: Client, database_url: str) -> None:
    async with frozen(database_url, "popularity"):
        waiting = asyncio.create_task(get(client, f"{POPULARITY}&at_least=2&wait=30"))
        await post(client, event("probe_viewed"))
        assert (await get(client, f"/v1/sessions?{SPAN}&at_least=1&wait=20")).status == 200  # and nobody else waits
        assert not waiting.done()
        await post(client, event("probe_viewed"))
    response = await waiting
    assert (response.status, position(response)) == (200, 2)
    assert (await response.json())["probes"][0]["views"] == 2


@pytest.mark.parametrize("wait", [0, 1])
async def test_what_is_not_reached_in_time_is_503(client: Client, database_url: str, wait: int) -> None:
    async with frozen(database_url, "popularity"):
        await post(client, registered("other"))
        await get(client, "/v1/probes/fog/gc_ms?channel=nightly&at_least=1&wait=20")
        began = time.monotonic()
        response = await get(client, f"{POPULARITY}&order=least&at_least=1&wait={wait}")
        assert time.monotonic() - began >= wait
        body = await response.json()
        assert response.status == body["status"] == 503
        assert (response.headers["Retry-After"], response.headers["Log-Position"]) == ("1", "0")
        assert body["positions"] == {"catalogue": 1, "popularity": 0}
        assert "popularity is at 0;" in body["detail"]


async def test_beyond_the_end_of_the_log_is_waited_for_too(client: Client) -> None:
    assert (await get(client, f"{POPULARITY}&at_least=3&wait=0")).status == 503
    waiting = asyncio.create_task(get(client, f"{POPULARITY}&at_least=3&wait=30"))
    await post(client, event("probe_viewed"), event("probe_viewed"))
    assert not waiting.done()
    await post(client, event("probe_viewed"))
    assert (await waiting).status == 200


async def test_a_projection_that_fell_back_is_not_taken_for_fresh(
    client: Client, database: Connection, drained: Drained
) -> None:
    await post(client, event("probe_viewed"))
    assert (await get(client, f"{POPULARITY}&at_least=1&wait=20")).status == 200
    await drained()
    async with never_locked(database):
        await database.execute("UPDATE projections SET position = 0 WHERE name = 'popularity'")
        response = await get(client, f"{POPULARITY}&at_least=1&wait=0")
        assert (response.status, position(response)) == (503, 0)
        await database.execute("UPDATE projections SET position = 1 WHERE name = 'popularity'")
    await eventually(lambda: ok(client, f"{POPULARITY}&at_least=1"), "it is fresh again")


async def ok(client: Client, path: str) -> bool:
    return (await get(client, path)).status == 200


async def test_what_cannot_be_waited_for_is_named(client: Client) -> None:
    for path in [case[0] for case in CASES] + ["/v1/probes/fog/gc_ms?channel=nightly"]:
        for wrong in ("at_least=-1", "at_least=x", "at_least=99999999999999999999", "wait=61", "wait=-1", "wait=nan"):
            response = await get(client, f"{path}&{wrong}")
            assert response.status == 422
            assert (await response.json())["errors"][0]["parameter"] == wrong.partition("=")[0]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_the_default_span_of_sessions_stays_for_an_hour(now: datetime) -> None:
    since, until = time_range_between(None, None, now)
    assert until == until.replace(minute=0, second=0, microsecond=0)
    assert timedelta(days=1) < until - now <= timedelta(days=1, hours=1)
    assert until - since == timedelta(days=7)
    assert time_range_between(None, None, now.replace(minute=59, second=59)) == (since, until)


def test_a_span_is_not_empty() -> None:
    with pytest.raises(Problem, match="before until"):
        time_range_between(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), datetime.now(UTC))
