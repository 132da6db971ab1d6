"""Every route is described; the document is valid OpenAPI, its page stands alone, and docs/api.md is up to date."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from aiohttp import web
from markupsafe import escape
from typer.testing import CliRunner

from tests.conftest import Start
from tests.support.servers import Client, JsonObject, post, registered
from usage_service.cli import make_app
from usage_service.shared.settings import ServerSettings
from usage_service.web.api.health import get_lbheartbeat
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.calls import HERE, Call
from usage_service.web.openapi.document import UndescribedRouteError, openapi_document
from usage_service.web.openapi.operations import Route, operation_of
from usage_service.web.openapi.reference_page import html_page, markdown_page

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
KINDS = {"schemas", "headers", "parameters"}
VOID = {"meta", "link"}


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def document() -> JsonObject:
    made: JsonObject = json.loads(json.dumps(openapi_document(ROUTES)))
    return made


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_route_is_described(document: JsonObject, route: Route) -> None:
    assert operation_of(route.handler) is not None, f"declare {route.handler.__name__} with @described(...)"
    operation = document["paths"][route.path][route.method.lower()]
    assert operation["summary"]
    assert operation["security"] == ([] if route.scope in ("open", "feed") else [{"bearer": [route.scope]}])
    assert any(int(status) < 400 for status in operation["responses"])
    assert ("401" in operation["responses"]) == (route.scope not in ("open", "feed"))
    given = {one["name"] for one in operation["parameters"] if one.get("in") == "path"}
    assert given == set(re.findall(r"{(\w+)}", route.path))
    for status, response in operation["responses"].items():
        assert response["description"]
        assert int(status) < 400 or response["content"]


def test_a_route_that_is_not_described_is_named() -> None:
    async def get_secret(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    with pytest.raises(UndescribedRouteError, match="/v1/secret"):
        openapi_document([Route("GET", "/v1/secret", "read", get_secret)])
    with pytest.raises(UndescribedRouteError, match="variables"):
        openapi_document([Route("GET", "/{who}", "open", get_lbheartbeat)])


def references(part: object) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    return [found for value in part for found in references(value)] if isinstance(part, list) else []


def test_what_is_referred_to_is_there_and_a_schema(document: JsonObject) -> None:
    for reference in set(references(document)):
        _, kind, name = reference.removeprefix("#/").split("/")
        assert kind in KINDS
        assert name in document["components"][kind]
    for schema in document["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(schema)
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)


def test_the_reference_is_what_the_routes_say(document: JsonObject) -> None:
    printed = CliRunner().invoke(make_app(), ["reference", "api"])
    assert printed.exit_code == 0
    assert printed.stdout == markdown_page(document)
    assert printed.stdout == PAGE.read_text("utf-8"), "run: usage-service reference api > docs/api.md"


def test_every_route_has_an_example_for_a_shell_and_in_python(document: JsonObject) -> None:
    page = html_page(document)
    for route in ROUTES:
        call = Call(document, route.method, route.path, document["paths"][route.path][route.method.lower()])
        words = shlex.split(call.curl())
        assert (words[0], words[-1]) == ("curl", call.address)
        compile(call.python(), "example", "exec")
        assert str(escape(call.curl())) in page
        assert str(escape(call.python())) in page


async def test_each_example_is_a_call_that_its_route_takes(client: Client, document: JsonObject) -> None:
    """Ask for what need not be there; nothing that is asked is wrong."""
    await post(client, registered("gc_ms"))
    for route in ROUTES:
        call = Call(document, route.method, route.path, document["paths"][route.path][route.method.lower()])
        place, body = call.address.removeprefix(HERE), json.dumps(call.body) if call.media_type else None
        headers = {"Content-Type": call.media_type} if call.media_type else {}
        async with client.request(route.method, place, data=body, headers=headers) as response:
            assert response.status in (200, 201, 202, 204, 303, 404, 409), (call.curl(), await response.text())


class Page(HTMLParser):
    """Parser of a page: its links, the ids of its elements, and the elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_page_stands_alone(start: Start, settings: ServerSettings) -> None:
    client = await start(msgspec.structs.replace(settings, token="a-token"))  # which is not sent
    response = await client.get("/docs")
    text, policy = await response.text(), response.headers["Content-Security-Policy"]
    page = Page(text)
    assert response.status == 200
    assert response.content_type == "text/html"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not page.open
    assert not page.inline
    assert "<script" not in text
    assert [link for link in page.links if link not in ("/openapi.json", "data:,") and link[1:] not in page.ids] == []
    assert all(route.path in text for route in ROUTES)
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_who_has_it_is_not_sent_it_again(client: Client, path: str) -> None:
    response = await client.get(path)
    assert response.status == 200
    again = await client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status == 304
    assert await again.read() == b""


async def test_what_is_served_is_the_document(client: Client, document: JsonObject) -> None:
    assert await (await client.get("/openapi.json")).json() == document
