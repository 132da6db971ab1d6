"""popular, sessions and releases: a table for people, CSV and JSON for programs, one line for what went wrong."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from typer.testing import CliRunner, Result

from tests.support.building import served
from tests.support.servers import Client, connected, drained_projections, event, post, registered
from usage_service.cli import make_app
from usage_service.shared.remote import RemoteError

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "a token of the tests"
EVIL = 'a\x1b[31m"page",\n=1+1 [red]x[/red] :smile:'


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        await post(
            client,
            *(event("probe_viewed", probe="gc_ms", visitor=name) for name in ("a", "b", "c")),
            event("probe_viewed", probe="slow_ms", visitor="a", data={"found": False}),
            event("page_viewed", visitor="d", data={"page": EVIL}),
            event("link_followed", visitor="d", data={"tool": "Looker"}),
            registered("gc_ms", occurred_at="2026-11-19T12:00:00Z"),
            registered("idle_ms", occurred_at="2026-11-19T12:00:00Z"),
        )
        await drained_projections(database)
        yield client


async def called(client: Client | BaseTestServer, *words: str) -> Result:
    """Return the command as typed, asking this service."""
    url = str(client.make_url("/"))
    return await asyncio.to_thread(CliRunner().invoke, make_app(), [*words, "--url", url, "--token", TOKEN])


SPAN = ("--since", "2026-11-20T00:00:00Z", "--until", "2026-11-21T00:00:00Z")


def records(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


async def test_a_pipe_gets_csv(client: Client) -> None:
    first, second = records(await called(client, "popular", *SPAN))
    assert first == {
        "product": "fog", "probe": "gc_ms", "views": "3", "visitors": "3", "found": "3", "missing": "0",
        "views_before": "0", "trend": "1.732",
    }  # fmt: skip
    assert (second["probe"], second["missing"]) == ("slow_ms", "1")


async def test_unused_probes_are_listed_with_what_the_log_cannot_tell(client: Client) -> None:
    shown = await called(client, "unused", *SPAN)
    assert [(row["probe"], row["last_viewed_on"], row["bytes"]) for row in records(shown)] == [("idle_ms", "", "")]
    assert "1 of 1 from 2026-11-20 to 2026-11-20; the log does not show" in shown.stderr


async def test_json_is_what_the_service_answers(client: Client) -> None:
    shown = await called(client, "sessions", *SPAN, "--format", "json")
    response = await client.get("/v1/sessions", params={"since": SPAN[1], "until": SPAN[3]})
    assert json.loads(shown.stdout) == (await response.json())["sessions"]


async def test_what_people_wrote_comes_through_csv_unchanged(client: Client) -> None:
    [session] = [row for row in records(await called(client, "sessions", *SPAN)) if row["first_page"]]
    assert (session["first_page"], session["tools_left"], session["role"]) == (EVIL, '["Looker"]', "starting_point")


async def test_a_terminal_prints_what_people_wrote_and_does_not_obey_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = await called(client, "sessions", *SPAN, "--format", "table")
    assert "\x1b" not in shown.stdout
    together = re.sub(r"\s", "", shown.stdout)
    assert "\\x1b" in together
    for text in ("[red]", ":smile:", "Looker"):
        assert any(piece in together for piece in (text, text[:4])), shown.stdout


@pytest.mark.parametrize(
    ("words", "probes"),
    [
        (("--order", "least"), ["idle_ms", "slow_ms", "gc_ms"]),
        (("--limit", "1"), ["gc_ms"]),
        (("--product", "fog"), ["gc_ms", "slow_ms"]),
        (("--channel", "nightly"), []),
        (("--bots",), ["gc_ms", "slow_ms"]),
    ],
)
async def test_options_are_those_of_the_route(client: Client, words: tuple[str, ...], probes: list[str]) -> None:
    assert [row["probe"] for row in records(await called(client, "popular", *SPAN, *words))] == probes


async def test_the_window_ends_where_it_is_told(client: Client) -> None:
    rows = records(await called(client, "popular", "--window", "3d", "--until", SPAN[3]))
    assert [row["views"] for row in rows] == ["3", "1"]


RELEASE = {
    "product": "fog", "channel": "nightly", "version": 146, "published_at": "2026-11-10T00:00:00Z",
    "views_before": 1200, "views_after": 3400, "ratio": 2.8333, "low": 2.65, "high": 3.03,
    "p_value": 1.5e-120, "effect": "more",
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="elsewhere")
async def one_elsewhere() -> AsyncIterator[BaseTestServer]:
    """Answer about releases, and with what is no answer."""

    async def impact(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert dict(request.query) == {"product": "fog", "days": "14"}
        return web.json_response({"releases": [RELEASE]})

    async def popularity(_request: web.Request) -> web.Response:
        return web.Response(text="<html>a proxy</html>")

    async def sessions(_request: web.Request) -> web.Response:
        return web.json_response({"title": "Token needed", "detail": "send a token of scope read"}, status=401)

    async def of_others(_request: web.Request) -> web.Response:
        return web.json_response({"error": None}, status=404)

    async def nothing(_request: web.Request) -> web.Response:
        return web.json_response({})

    server = web.Application()
    server.add_routes(
        [
            web.get("/v1/releases/impact", impact),
            web.get("/v1/popularity", popularity),
            web.get("/v1/sessions", sessions),
            web.get("/v1/unused", of_others),
            web.get("/v1/hotlist/rules", nothing),
        ]
    )
    async with TestServer(server) as started:
        yield started


async def test_releases_are_shown_with_their_chance(elsewhere: BaseTestServer) -> None:
    asked = ("releases", "--product", "fog", "--days", "14")
    assert records(await called(elsewhere, *asked)) == [{name: str(value) for name, value in RELEASE.items()}]
    assert json.loads((await called(elsewhere, *asked, "--format", "json")).stdout) == [RELEASE]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sessions", "answered 401: send a token of scope read; give the token of the service by --token"),
        ("popular", "is not a usage service: "),
        ("unused", """answered 404: this is not a usage service ('{"error": null}')"""),
        ("hotlist rules", "is not a usage service: it answers without rules"),
    ],
)
async def test_what_is_no_answer_is_one_line(elsewhere: BaseTestServer, command: str, said: str) -> None:
    result = await called(elsewhere, *command.split())
    assert isinstance(result.exception, RemoteError)
    assert said in str(result.exception)
    assert TOKEN not in str(result.exception)


async def test_a_service_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    words = ["popular", "--url", f"http://127.0.0.1:{unused_tcp_port}"]
    result = await asyncio.to_thread(CliRunner().invoke, make_app(), words)
    assert f"127.0.0.1:{unused_tcp_port} does not answer" in str(result.exception)
