"""The change to GLAM, pasted from its guide into an app: in a browser, a page waits for the build of what it misses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip("django")

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from playwright.async_api import Page

from tests.support.browsers import browser_context, needs_chromium
from tests.support.building import bring_to, served
from tests.support.django_project import (
    FIREFOX,
    MIDDLEWARE,
    django_project,
    remembered_middlewares,
    served_to_browsers,
)
from tests.support.servers import Connection, drained_projections, eventually, registered
from tests.support.snippets import snippets
from tests.support.traffic import records
from usage_service.ingest.appending import append
from usage_service.tokens import create_token

pytestmark = needs_chromium
[PYTHON, HTML, SCRIPT] = [one.text for one in snippets("docs/guides/glam.md", "python", "html", "js")]
MISSED, IS_BUILT, RECORDED = SCRIPT.split("\n\n")
# What GLAM has without the change: it posts the query, and makes an error of what is not 200.
API = f"""
async function getProbeData(params) {{
  const body = JSON.stringify({{ query: params }});
  const response = await fetch('/api/v1/data/', {{ method: 'POST', body }});
  {MISSED}
  if (!response.ok) throw new Error(response.status);
  return response.json();
}}
{IS_BUILT}
function search(queryString, results, key, value) {{ {RECORDED} }}
function seen(probe) {{
  return getProbeData({{ ...QUERY, probe }}).then((body) => body.response.length, (error) => error.message);
}}
"""
QUERY = "{ product: 'fog', app_id: 'nightly', ping_type: '*', os: '*', aggregationLevel: 'version', versions: 20 }"


@csrf_exempt
def aggregations(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "No documents"}, status=404)


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f'<!doctype html><title>GLAM</title>{HTML}<script src="/api.js"></script>')


def script(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"const QUERY = {QUERY};\n{API}", content_type="text/javascript")


TOKEN = "of the fixture"
CHANGED: dict[str, Any] = {
    "os": SimpleNamespace(environ={"USAGE_SERVICE_TOKEN": TOKEN}),
    "THE_OTHERS": MIDDLEWARE[1:],
    "THE_OTHER_ROUTES": [path("api.js", script), path("", index)],
    "api_views": SimpleNamespace(aggregations=aggregations),
    "include": include,
    "path": path,
}
exec(PYTHON, CHANGED)
urlpatterns = CHANGED["urlpatterns"]


@asynccontextmanager
async def glam(url: str, token: str, spool: Path) -> AsyncIterator[Page]:
    """Open GLAM, as it is with the change, in a browser whose clock can be moved on."""
    assert CHANGED["USAGE_SERVICE"]["TOKEN"] == TOKEN
    options = CHANGED["USAGE_SERVICE"] | {"URL": url, "TOKEN": token, "SPOOL_DIR": str(spool)}
    settings = override_settings(MIDDLEWARE=CHANGED["MIDDLEWARE"], USAGE_SERVICE=options)
    with django_project(__name__), settings, remembered_middlewares(), served_to_browsers() as app:
        async with browser_context(user_agent=FIREFOX) as context:
            await context.clock.install()
            page = await context.new_page()
            await page.goto(app)
            yield page


async def test_a_page_waits_for_the_build_of_what_it_misses(
    database_url: str, database: Connection, tmp_path: Path
) -> None:
    token = await create_token(database, "glam", ["events", "read"], timedelta(days=1))
    async with served(database_url, build_misses=True, token="the operator's own") as service:
        await append(database, records([registered(probe) for probe in ("gc_ms", "slow_ms", "gc_slice")]))
        await drained_projections(database)
        async with glam(str(service.make_url("/")).rstrip("/"), token, tmp_path) as page:
            assert await seen(page, database, "gc_ms", "succeeded") == 1
            assert await seen(page, database, "slow_ms", "no_data") == "404"
            assert await page.evaluate("seen('nobody_knows_it')") == "404"
            await page.route("**/v1/builds/*", lambda route: route.fulfill(status=502, body="no answer"))
            assert await page.evaluate("seen('gc_slice')") == "404"
            await page.evaluate("search('gc', [1, 2, 3], 'os', 'Windows')")
            await eventually(lambda: recorded(database), "what was done is recorded")


async def seen(page: Page, database: Connection, probe: str, end: str) -> object:
    """Return what the page shows of a probe, whose build ends so once the page has asked for its state three times."""
    polls: list[str] = []
    page.on("response", lambda response: polls.append(response.url) if "/v1/builds/" in response.url else None)
    shown = asyncio.create_task(page.evaluate("probe => seen(probe)", probe))

    async def asked_again() -> bool:
        await page.clock.run_for(2_000)
        return len(polls) >= 3

    await eventually(asked_again, "the page asks for the state of the build")
    assert not shown.done()
    build_id: UUID = await database.fetchval("SELECT build_id FROM builds WHERE probe = $1 AND state = 'queued'", probe)
    assert {url.rpartition("/")[2] for url in polls} == {str(build_id)}
    await bring_to(database, build_id, end)

    async def answered() -> bool:
        await page.clock.run_for(2_000)
        return shown.done()

    await eventually(answered, "the page has its answer")
    return await shown


async def recorded(database: Connection) -> bool:
    rows = await database.fetch("SELECT DISTINCT type FROM event_log")
    return {"page_viewed", "probe_viewed", "probe_searched", "control_changed"} <= {row["type"] for row in rows}
