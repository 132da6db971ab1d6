"""No field of any request is answered with a 500 for what no database or calendar holds: a refusal names the field."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
import typer
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.support.bad_input import filled, one_service, refused
from tests.support.request_fields import RequestField, request_fields
from tests.support.servers import Client, JsonObject, connected, event
from usage_service.commands.times import read_time
from usage_service.cursors import Cursor
from usage_service.events import EVENT_TYPES
from usage_service.hotlist.unused import UnusedCursor
from usage_service.shared.texts import NUL_REFUSED
from usage_service.stats.feed import NewsCursor
from usage_service.stats.popularity import PopularityCursor
from usage_service.web.api.routes import Route
from usage_service.web.errors import problems_middleware
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = [*request_fields()]
WHOLE = {"product": "fog", "app_id": "nightly", "ping_type": "*", "probe": "gc_ms", "aggregationLevel": "version"}
NOT_READ = {  # a token where nobody needs one; what GLAM passes over
    "GET /feeds/{token} path token",
    "GET /api/v1/usage/ query actionType",
    "GET /api/v1/usage/ query agg",
    "GET /api/v1/usage/ query partial",
    "GET /api/v1/probes/random/ query n",
}
# Beyond the first or the last instant in UTC; and so near that a day before or after is.
OUTSIDE = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with one_service(module_database_url) as client:
        yield client


async def named(field: RequestField, client: Client, text: str) -> set[str]:
    """Return the names of the fields that are refused."""
    return names_of(await refused(await field.send(client, text), 422))


def names_of(problem: JsonObject) -> set[str]:
    """Return the names of the fields that a problem tells of."""
    return {error.get("parameter") or error["pointer"].split("/")[1] for error in problem["errors"]}


@pytest.mark.parametrize("field", [field for field in FIELDS if field.takes_time], ids=str)
async def test_a_time_outside_the_calendar(client: Client, field: RequestField) -> None:
    for text in OUTSIDE:
        escaped = text.replace("+", "%2B") if field.place != "body" else text
        assert await named(field, client, escaped) == {field.name}, text


@pytest.mark.parametrize("text", OUTSIDE)
async def test_a_time_of_a_command_outside_the_calendar(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be between 1900-01-01 and 3000-01-01"):
        read_time(text)


@pytest.mark.parametrize("field", FIELDS, ids=str)
async def test_a_text_with_nul(client: Client, field: RequestField) -> None:
    response = await field.send(client, "a\0b" if field.place == "body" else "a%00b")
    if response.status == 200:
        assert str(field) in NOT_READ
    elif field.place == "path" and response.status != 422:  # of what is known by a UUID
        await refused(response, 404)
    elif response.status == 400:  # as GLAM itself says it
        assert field.route.startswith("/api/v1/"), await response.text()
    else:
        assert names_of(await refused(response, 422)) == {field.name}


async def test_a_text_with_nul_that_nothing_refused_before_the_database(database_url: str) -> None:
    async def hand_on(request: web.Request) -> web.Response:
        texts = [request.match_info["name"], request.query.get("q", ""), *(await request.json()).values()]
        async with connected(database_url) as database:
            await database.fetch("SELECT $1::text[], $2::jsonb", texts, texts)
        return web.Response()

    app = web.Application(middlewares=[problems_middleware])
    app.router.add_post("/{name}", hand_on)
    async with TestClient(TestServer(app)) as client:
        for path, body, error in (
            ("/a%00b", {}, {"parameter": "name"}),
            ("/a?q=%00", {}, {"parameter": "q"}),
            ("/a", {"b": "\0"}, {"pointer": ""}),
        ):
            response = await client.post(URL(path, encoded=True), json=body)
            assert (await refused(response, 422))["errors"] == [error | {"detail": NUL_REFUSED}]


@pytest.mark.parametrize("field", FIELDS, ids=str)
async def test_half_a_character(client: Client, field: RequestField) -> None:
    """A lone surrogate, which no UTF-8 has."""
    response = await field.send(client, "a\ud800" if field.place == "body" else "a%ED%A0%80")
    assert response.status < 500, await response.text()


@pytest.mark.parametrize("route", PAGE_ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_page(client: Client, route: Route) -> None:
    names = ("product", "probe", "q", "channel", "os", "cursor", "type", "since")
    for path in [re.sub(r"{\w+}", "a%00b", route.path), *(f"{filled(route.path)}?{name}=a%00b" for name in names)]:
        place = URL(f"http://{client.host}:{client.port}{path}", encoded=True)
        response = await client.session.request(route.method, place, allow_redirects=False)
        assert response.status < 500, path


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        ("/v1/popularity", PopularityCursor(1.0, "fog", "a\0b")),
        ("/v1/unused", UnusedCursor(1.0, "fog\0", "gc_ms")),
        ("/feeds/anything", NewsCursor(1, "a\0b")),
    ],
)
async def test_a_cursor_that_was_forged(client: Client, path: str, cursor: Cursor) -> None:
    response = await client.get(path, params={"cursor": str(cursor)})
    assert names_of(await refused(response, 422)) == {"cursor"}


@pytest.mark.parametrize("query", [{"metric_key": "a\0b"}, {"a\0b": 1}, {"os": {"a": ["\0"]}}, {"versions": "\0"}])
async def test_what_an_object_holds(client: Client, query: JsonObject) -> None:
    for path in ("/api/v1/data/", "/api/v1/labels/"):
        response = await client.post(path, json={"query": WHOLE | query})
        assert response.status < 500, await response.text()


async def test_a_cookie_that_spells_it(client: Client) -> None:
    """An octal escape in quotes stands for a character."""
    headers = {"Cookie": r'glam_visitor="a\000b"'}
    response = await client.post("/api/v1/data/", json={"query": WHOLE}, headers=headers)
    assert response.status == 404, await response.text()


@pytest.mark.parametrize("kind", EVENT_TYPES)
async def test_every_text_of_every_event(client: Client, kind: str) -> None:
    """Store a keyed hash of the visitor, who may be called by any text."""
    data = [field for field in msgspec.structs.fields(EVENT_TYPES[kind].data_type()) if "str" in str(field.type)]
    made = [event(kind, data={field.name: "a\0b"}) for field in data]
    made += [event(kind, **{name: "a\0b"}) for name in ("product", "channel", "probe", "type", "event_id", "data")]
    for one in made:
        response = await client.post("/v1/events", json=one)
        await refused(response, 422)
    assert (await client.post("/v1/events", json=event(visitor="a\0b"))).status == 201
