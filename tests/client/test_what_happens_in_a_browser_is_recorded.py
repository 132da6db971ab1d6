"""An app's pages with the drop-in script, in a browser: links followed, controls changed, searches, pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("django")

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from playwright.async_api import Page

from tests.support.browsers import browser_context, needs_chromium
from tests.support.django_project import (
    FIREFOX,
    configured,
    django_project,
    remembered_middlewares,
    served_to_browsers,
)
from tests.support.servers import Client, Connection, eventually
from tests.support.snippets import snippets
from tests.support.traffic import fold_all

pytestmark = needs_chromium
ELSEWHERE = "https://bugzilla.mozilla.org/show_bug.cgi?id=1"
[SCRIPT_TAG] = snippets("docs/guides/app.md", "html")
[TOLD] = snippets("docs/guides/app.md", "js")
PAGE = f"""<!doctype html><title>An app</title>{SCRIPT_TAG.text}
<select name=os><option>*<option>Windows</select> <input type=checkbox id=normalized> <input type=text name=note>
<a href="#below">below</a> <a href="{ELSEWHERE}">Bug <b>1</b></a>"""
PASTED = "\U0001f50e" * 1_500 + "x" * 1_500  # longer than a text may be, and of characters that are two in JavaScript
RECORDED = [
    ("control_changed", {"control": "normalized", "value": True}),
    ("control_changed", {"control": "os", "value": "Windows"}),
    ("control_changed", {"control": "os", "value": "Windows"}),  # as the guide tells it
    ("link_followed", {"tool": "bugzilla.mozilla.org", "url": "https://bugzilla.mozilla.org/show_bug.cgi"}),
    ("page_viewed", {"page": "/"}),  # by the middleware
    ("page_viewed", {"page": "/"}),  # back again, by the script
    ("page_viewed", {"page": "/fog/probe/gc_ms/explore"}),
    ("probe_searched", {"query": PASTED[:2_000], "results": 3}),
]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE, headers={"Content-Security-Policy": "default-src 'self'"})


urlpatterns = [path("", include("usage_service.django.urls")), path("", page)]


@pytest.fixture
def app(client: Client) -> Iterator[str]:
    """Run an app that records to the service, and return its address."""
    url = str(client.make_url("/")).rstrip("/")
    with django_project(__name__), remembered_middlewares(), configured(url), served_to_browsers() as app:
        yield app


@pytest.mark.parametrize("beacons", [True, False])
async def test_what_people_do_is_recorded_whether_there_are_beacons_or_not(
    app: str, database: Connection, beacons: bool
) -> None:
    async with browser_context(user_agent=FIREFOX) as context:
        await context.route(ELSEWHERE, lambda route: route.fulfill(body="elsewhere"))
        if not beacons:
            await context.add_init_script("delete Navigator.prototype.sendBeacon")
        await use(await context.new_page(), app)
        await eventually(lambda: count_is(database, len(RECORDED)), "what was done is recorded")
    rows = await database.fetch("SELECT type, data, visitor FROM event_log")
    found = [(row["type"], dict(sorted(row["data"].items()))) for row in rows]
    assert sorted(found, key=str) == RECORDED
    assert len({row["visitor"] for row in rows}) == 1
    await fold_all(database)
    [session] = await database.fetch("SELECT role, tools_left FROM sessions")
    assert (session["role"], session["tools_left"]) == ("starting_point", ["bugzilla.mozilla.org"])


async def use(page: Page, app: str) -> None:
    """Do what is recorded, and what is not: what is typed, letters of a search, another query of the same page."""
    await page.goto(app)
    await page.select_option("select", "Windows")
    await page.check("#normalized")
    await page.fill("[name=note]", "about a person")
    await page.click("text=below")
    await page.evaluate(TOLD.text)
    for query in ("g", "gc", PASTED):
        await page.evaluate("query => recordUsage('probe_searched', { query, results: 3 })", query)
    await page.evaluate("history.replaceState(null, '', '?os=Windows')")
    await page.evaluate("history.pushState(null, '', '/fog/probe/gc_ms/explore')")
    await page.go_back()
    await page.click(f"[href='{ELSEWHERE}'] b")
    await page.wait_for_url(ELSEWHERE)


async def count_is(database: Connection, wanted: int) -> bool:
    return bool(await database.fetchval("SELECT count(*) >= $1 FROM event_log", wanted))
