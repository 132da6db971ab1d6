"""A feed reader is told by Atom what happened to probes: once each, in pages, whatever is rebuilt meanwhile."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urljoin
from uuid import UUID
from xml.etree.ElementTree import Element, fromstring

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bad_input import refused
from tests.support.building import COLUMNS, asked, bring_to, served
from tests.support.servers import (
    Client,
    Connection,
    connected,
    drained_projections,
    event,
    eventually,
    post,
    registered,
)
from usage_service.projections.rebuilding import rebuild
from usage_service.tokens import TokenScope, create_token, revoke_tokens
from usage_service.web.api.atom import Entry, Feed, atom

on_the_loop = pytest.mark.asyncio(loop_scope="module")

NAME = "{http://www.w3.org/2005/Atom}"
OPERATORS = "the-operators-token-of-this-test"
SET_ASIDE, UNVIEWED = "An event of gc_ms of fog was set aside by sessions", "old_ms of fog went unviewed for 90 days"
YEAR = timedelta(days=365)
LONG_AGO = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(days=120)
ERROR = "no number: <b>\x0b\ud83d\ude00 &".encode("utf-16", "surrogatepass").decode("utf-16")
FORGED = [b'["2026-01-01T00:00:00Z","\\u0000"]', b'[0,"\\u0000"]', b'["2026-01-01T00:00:00","a"]']
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Followed(NamedTuple):
    """A server with news, its database, and a token of a feed."""

    client: Client
    database: Connection
    token: str

    async def read(self, query: str = "") -> Element:
        """Return the feed."""
        response = await self.client.get(f"/feeds/{self.token}{query}")
        assert (response.status, response.content_type) == (200, "application/atom+xml"), await response.text()
        return checked(await response.read())


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="followed")
async def one_followed(module_database_url: str) -> AsyncIterator[Followed]:
    operator = {"Authorization": f"Bearer {OPERATORS}"}
    async with served(module_database_url, token=OPERATORS) as client, connected(module_database_url) as database:
        client.session.headers.update(operator)
        probes = ("gc_ms", "old_ms", "viewed_ms", "never_ms")
        await post(client, *[registered(probe, occurred_at=LONG_AGO.isoformat()) for probe in probes])
        views = {"old_ms": LONG_AGO + timedelta(days=7), "viewed_ms": datetime.now(UTC), "gc_ms": datetime.now(UTC)}
        for probe, at in views.items():
            await post(client, event("probe_viewed", probe=probe, occurred_at=at.isoformat()))
        await post(client, event("probe_built", probe="viewed_ms", visitor=None, occurred_at=LONG_AGO.isoformat()))
        await drained_projections(database)
        await bring_to(database, await asked(client), "succeeded")
        await drained_projections(database)
        await database.execute("INSERT INTO dead_letters VALUES ('sessions', 'live', 1, 'UB099', $1, now())", ERROR)
        del client.session.headers["Authorization"]
        yield Followed(client, database, await create_token(database, "reader", ["feed"], YEAR))


def checked(text: bytes) -> Element:
    """Return a feed that is as RFC 4287 has it."""
    feed = fromstring(text)
    assert feed.tag == f"{NAME}feed"
    entries = feed.findall(f"{NAME}entry")
    for one in (feed, *entries):
        for name in ("id", "title", "updated"):
            assert len(one.findall(NAME + name)) == 1
        assert UUID(text_of(one, "id").removeprefix("urn:uuid:")).urn == text_of(one, "id")
        assert INSTANT.fullmatch(text_of(one, "updated"))
        links = [(link.get("rel"), link.get("type")) for link in one.findall(f"{NAME}link")]
        assert links.count(("alternate", "text/html")) == 1
        assert len({relation for relation, _ in links}) == len(links)
    assert text_of(feed, f"author/{NAME}name")
    assert place_of(feed, "self") is not None
    ids = [text_of(one, "id") for one in entries]
    assert len(set(ids)) == len(ids)
    times = [text_of(one, "updated") for one in entries]
    assert times == sorted(times, reverse=True)
    return feed


def text_of(element: Element, name: str) -> str:
    found = element.findtext(NAME + name)
    assert found is not None
    return found


def titles(feed: Element) -> list[str]:
    return [text_of(entry, "title") for entry in feed.findall(f"{NAME}entry")]


def place_of(feed: Element, relation: str) -> str | None:
    return next((link.get("href") for link in feed.findall(f"{NAME}link") if link.get("rel") == relation), None)


@on_the_loop
async def test_it_tells_what_was_built_what_nobody_viewed_and_what_was_set_aside(followed: Followed) -> None:
    feed = await followed.read()
    assert titles(feed) == [
        SET_ASIDE,
        "gc_ms of fog was built for nightly",
        UNVIEWED,
        "never_ms of fog went unviewed for 90 days",
        "viewed_ms of fog was built by the ETL",
    ]  # fmt: skip
    set_aside, built, *_ = feed.findall(f"{NAME}entry")
    assert text_of(set_aside, "summary").endswith("of gc_ms of fog: no number: <b>\ufffd\U0001f600 &.")
    assert text_of(built, "summary") == "gc_ms of fog was built for nightly: 1 rows, 1,000 bytes read."
    assert place_of(built, "alternate") == "/probes/fog/gc_ms?channel=nightly"
    old = feed.findall(f"{NAME}entry")[2]
    viewed = LONG_AGO + timedelta(days=7)
    assert text_of(old, "updated").startswith(f"{viewed + timedelta(days=90, minutes=30):%Y-%m-%dT%H:%M}")
    assert text_of(old, "summary") == f"old_ms of fog was last viewed on {viewed:%Y-%m-%d}."


@on_the_loop
async def test_what_is_followed_may_be_chosen(followed: Followed) -> None:
    assert titles(await followed.read("?kind=unviewed&kind=built&probe=old_ms")) == [UNVIEWED]
    assert titles(await followed.read("?product=fenix&kind=built&kind=unviewed")) == []
    assert titles(await followed.read("?product=fog&kind=set_aside")) == [SET_ASIDE]
    ids = {text_of(await followed.read(query), "id") for query in ("", "?product=fog", "?product=fog&kind=built")}
    assert len(ids) == 3
    forged = [b64encode(place).decode().rstrip("=") for place in FORGED]
    cursors = [f"cursor={one}" for one in ("x", *forged)]
    for wrong in ("kind=odd", "limit=0", "limit=201", *cursors, "colour=1", "product=%00"):
        problem = await refused(await followed.client.get(f"/feeds/{followed.token}?{wrong}"), 422)
        assert problem["errors"][0]["parameter"] == wrong.partition("=")[0]


@on_the_loop
async def test_pages_have_each_news_once(followed: Followed) -> None:
    found, place = [], f"/feeds/{followed.token}?limit=2"
    for _ in range(9):
        response = await followed.client.get(place)
        feed = checked(await response.read())
        assert len(titles(feed)) <= 2
        found += titles(feed)
        following = place_of(feed, "next")
        assert response.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
        if following is None:
            break
        place = urljoin(place, following)
    assert found == titles(await followed.read())


@on_the_loop
async def test_ids_outlive_rebuilds(followed: Followed) -> None:
    before = await followed.read()
    for projection in ("catalogue", "timeseries"):
        await rebuild(followed.database, projection, {}, lambda *_: None)
    after = await followed.read()
    assert [text_of(one, "id") for one in after.iter(f"{NAME}entry")] == [
        text_of(one, "id") for one in before.iter(f"{NAME}entry")
    ]


@on_the_loop
async def test_a_reader_that_has_it_is_told_so_until_there_is_more(followed: Followed) -> None:
    place = f"/feeds/{followed.token}?kind=set_aside"
    response = await followed.client.get(place)
    tag = {"If-None-Match": response.headers["ETag"]}
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert (await followed.client.get(place, headers=tag)).status == 304
    await followed.database.execute("INSERT INTO dead_letters VALUES ('sessions', 'live', 2, 'UB099', 'odd', now())")
    again = await followed.client.get(place, headers=tag)
    assert (again.status, len(titles(checked(await again.read())))) == (200, 2)
    await followed.database.execute("DELETE FROM dead_letters WHERE position = 2")


@on_the_loop
async def test_no_token_is_in_a_feed_and_it_opens_nothing_else(followed: Followed) -> None:
    response = await followed.client.get(f"/feeds/{followed.token}")
    assert followed.token not in await response.text() + str(response.headers)
    bearer = {"Authorization": f"Bearer {followed.token}"}
    for method, place in (("GET", "/v1/popularity"), ("GET", "/"), ("POST", "/v1/events"), ("GET", "/metrics")):
        assert (await followed.client.request(method, place, headers=bearer)).status == 403
    for method in ("POST", "PUT", "DELETE"):
        assert (await followed.client.request(method, f"/feeds/{followed.token}")).status == 405


@on_the_loop
@pytest.mark.parametrize("scopes", [["read"], ["admin", "build", "events", "read"]])
async def test_a_token_that_opens_more_is_none_for_a_feed(followed: Followed, scopes: list[TokenScope]) -> None:
    other = await create_token(followed.database, "other", scopes, YEAR)
    for token in (other, OPERATORS, "us_" + "x" * 43, "x" * 9):
        response = await followed.client.get(f"/feeds/{token}", headers={"Accept": "text/html"})
        problem = await refused(response, 404)
        assert (problem["title"], token in str(problem)) == ("Unknown feed", False)


@on_the_loop
async def test_a_revoked_feed_ends(followed: Followed) -> None:
    token = await create_token(followed.database, "leaver", ["feed"], YEAR)
    assert (await followed.client.get(f"/feeds/{token}")).status == 200
    assert await revoke_tokens(followed.database, "leaver") == 1

    async def ended() -> bool:
        return (await followed.client.get(f"/feeds/{token}")).status == 404

    await eventually(ended, "the token opens nothing any more")


NEWS = st.tuples(st.uuids(), st.text(), st.datetimes(timezones=st.just(UTC)), st.text())


@given(st.lists(NEWS, unique_by=lambda one: one[0]))
def test_any_text_is_well_formed(made: list[tuple[UUID, str, datetime, str]]) -> None:
    made.sort(key=lambda one: one[2], reverse=True)
    entries = [Entry(key, title, at, "/", "built", summary) for key, title, at, summary in made]
    feed = fromstring(atom(Feed(UUID(int=0), "news", LONG_AGO, {"self": "", "alternate": "/"}, entries)))
    shown = feed.findall(f"{NAME}entry")
    assert [text_of(one, "id") for one in shown] == [one.entry_id.urn for one in entries]
    for entry, one in zip(entries, shown, strict=True):
        kept = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", entry.summary)
        assert text_of(one, "summary").splitlines() == kept.splitlines()


@on_the_loop
async def test_a_distribution_that_moved_is_told_of_the_probe_that_is_followed(followed: Followed) -> None:
    query = "SELECT build_id FROM builds WHERE probe = 'gc_ms' AND state = 'succeeded'"
    build = await followed.database.fetchval(query)
    still, moved = ({"1": 0.5, "10": 0.4, "100": 0.1}, {"1": 0.1, "10": 0.4, "100": 0.5})
    hours = [f"20261101{hour:02}" for hour in range(12)]
    told = [json.dumps(moved if hour >= "2026110108" else still) for hour in hours]
    records = [
        ("fog", "nightly", "gc_ms", build, 150, "*", "*", hour, "timing_distribution", "", "summed_histogram",
         5000, 9000, text, '{"50": 10}', text, '{"50": 10}')
        for hour, text in zip(hours, told, strict=True)
    ]  # fmt: skip
    await followed.database.copy_records_to_table("probe_rows", records=records, columns=COLUMNS)
    feed = await followed.read("?product=fog&probe=gc_ms&kind=moved&limit=1")
    assert titles(feed) == ["gc_ms of fog moved at build 2026110108 (version 150)"]
    assert text_of(feed.findall(f"{NAME}entry")[0], "updated") == "2026-11-01T08:00:00Z"
    assert "moved" not in str(titles(await followed.read()))
    assert titles(await followed.read("?product=fog&probe=gc_ms"))[-1] == titles(feed)[0]
    problem = await refused(await followed.client.get(f"/feeds/{followed.token}?kind=moved&product=fog"), 422)
    assert problem["errors"][0]["parameter"] == "kind"
