"""What a page shows is taken away: as CSV, JSON, a command, a picture or a link; its tables are put in other orders."""

from __future__ import annotations

import csv
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit
from xml.etree.ElementTree import fromstring

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.support.browsers import accessible, browser_context, needs_chromium
from tests.support.pages import NIGHT, NUMERIC, Pages, answered, filled_pages, shown, taken
from tests.support.servers import drained_projections, post, registered
from usage_service.web.pages import sessions

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
MANY = 230  # probes: more than a page has


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="browser")
async def one_browser() -> AsyncIterator[BrowserContext]:
    async with browser_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        yield context


async def opened(pages: Pages, browser: BrowserContext, path: str) -> Page:
    page = await browser.new_page()
    await page.goto(urljoin(str(pages.client.make_url("/")), path))
    await expect(page.locator(".waits, [aria-busy]")).to_have_count(0)
    return page


def rows_in(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def root_of(path: Path) -> str:
    return fromstring(path.read_bytes()).tag


async def test_what_is_taken_is_what_is_shown(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog&window=7d")
    [most] = [place for place in taken(page) if "order=most" in place and "format" not in place]
    probes = [probe["probe"] for probe in (await answered(pages.client, most))["probes"]]
    text = page.all("section", **{"aria-labelledby": "h-most"})[0].text
    assert probes
    assert all(probe in text for probe in probes)
    page = await shown(pages.client, f"/probes/fog/{NUMERIC}?os=Windows&version=140")
    places = [
        place for place in taken(page) if "os=Windows" in place and "version=140" in place and "format" not in place
    ]
    rows = [row for place in places for row in (await answered(pages.client, place))["rows"]]
    assert {(row["os"], row["version"]) for row in rows} == {("Windows", 140)}


async def test_a_long_list_goes_on_on_the_next_page(pages: Pages) -> None:
    names = [f"many_{number:03}" for number in range(MANY)]
    await post(pages.client, *[registered(name, product="klar") for name in names])
    await drained_projections(pages.database)
    found, place = [], "/probes?product=klar&q=many"
    for _ in range(3):
        page = await shown(pages.client, place)
        found += [one.text for one in page.all("a") if one.text.startswith("many_")]
        following = page.all("a", rel="next")
        if not following:
            break
        place = following[0].attributes["href"] or ""
    assert sorted(found) == names
    table = await (await pages.client.get("/v1/probes?product=klar&q=many&limit=1000&format=csv")).text()
    assert sorted(row["probe"] for row in csv.DictReader(table.splitlines())) == names


async def test_sessions_go_on_with_earlier_ones(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LATEST", 2)
    page = await shown(pages.client, "/sessions?product=fog&window=7d")
    places = list[str]()
    while True:
        rows = page.elements[page.elements.index(page.all("section", **{"aria-labelledby": "h-latest"})[0]) :]
        places += [link for one in rows if (link := one.attributes.get("href") or "").startswith("/sessions/")]
        following = page.all("a", rel="next")
        if not following:
            break
        page = await shown(pages.client, following[0].attributes["href"] or "")
    listed = (await answered(pages.client, "/v1/sessions?product=fog"))["sessions"]
    assert len(places) > 2
    assert [place.split("/")[2] for place in places] == [one["visitor"] for one in listed]


SHARED = [("/", ""), (f"/probes/fog/{NUMERIC}", "os=Windows"), ("/builds", "state=failed"), (f"/nights/{NIGHT}", "")]


@pytest.mark.parametrize(("path", "more"), SHARED)
async def test_a_link_shows_the_same_days_tomorrow(pages: Pages, path: str, more: str) -> None:
    page = await shown(pages.client, f"{path}?product=fog&window=7d&{more}")
    [button] = [one for one in page.all("button") if one.text == "Copy link"]
    link = button.attributes["data-share"] or ""
    asked = parse_qs(urlsplit(link).query)
    assert urlsplit(link).path == path
    assert {"window": ["7d"], **parse_qs(more)}.items() <= asked.items()
    days = {f"{datetime.now(UTC) + timedelta(days=ahead):%Y-%m-%d}" for ahead in (0, 1)}  # it may be midnight meanwhile
    assert asked["until"][0] in days
    await shown(pages.client, link)


@needs_chromium
async def test_a_command_a_picture_and_a_link_are_copied(pages: Pages, browser: BrowserContext) -> None:
    page = await opened(pages, browser, "/?product=fog&window=7d")
    most = page.get_by_role("group", name="Take away: Most viewed")
    await most.get_by_role("button", name="Copy as curl").click()
    await expect(page.get_by_text("The command is copied.")).to_be_visible()
    command = shlex.split(await page.evaluate("navigator.clipboard.readText()"))
    assert command[:2] == ["curl", "-sS"]
    probes = (await answered(pages.client, command[-1].removeprefix(str(pages.client.make_url("/"))[:-1])))["probes"]
    await page.get_by_role("button", name="Copy link").click()
    await expect(page.get_by_text("The link is copied.")).to_be_visible()
    assert "until=" in await page.evaluate("navigator.clipboard.readText()")
    async with page.expect_download() as drawn:
        await page.get_by_role("group", name="Take away: Views").get_by_role("button", name="SVG").click()
    picture = await drawn.value
    assert picture.suggested_filename == "views.svg"
    assert root_of(await picture.path()) == "{http://www.w3.org/2000/svg}svg"
    async with page.expect_download() as listed:
        await most.get_by_role("link", name="CSV").click()
    rows = rows_in(await (await listed.value).path())
    assert [row["probe"] for row in rows] == [probe["probe"] for probe in probes] != []
    await page.close()


@needs_chromium
async def test_columns_are_sorted_by_click_and_key(pages: Pages, browser: BrowserContext) -> None:
    page = await opened(pages, browser, "/sessions?product=fog&window=90d")
    for width in (1_440, 1_024, 360):
        await page.set_viewport_size({"width": width, "height": 800})
        await are_sorted(page)
        await page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    await accessible(page)
    await page.close()


async def are_sorted(page: Page) -> None:
    table = page.get_by_role("group", name="The latest sessions").get_by_role("table")
    began = table.locator("tbody tr th")
    before = await began.all_inner_texts()
    assert len(before) > 2
    assert before == sorted(before, reverse=True)
    sorts = table.get_by_role("button", name="Began")
    await sorts.focus()
    await page.keyboard.press("Enter")
    assert await began.all_inner_texts() == sorted(before)
    await expect(table.get_by_role("columnheader", name="Began")).to_have_attribute("aria-sort", "ascending")
    await sorts.click()
    assert await began.all_inner_texts() == before


@needs_chromium
async def test_amounts_are_put_in_order_as_they_are_meant(pages: Pages, browser: BrowserContext) -> None:
    page = await opened(pages, browser, "/unused?product=fog&window=1d")
    amounts = {"1,234": 1234, "12.5 %": 0.125, "1.2 GB": 1.2e9, "999 kB": 999e3, "3 min 20 s": 200, "319 ms": 0.319}
    amounts |= {"$0.12": 0.12, "-4": -4, "2 d 3 h": 183_600}
    assert await page.evaluate("texts => texts.map(amount)", [*amounts]) == pytest.approx([*amounts.values()])
    names = ["gc_ms", "beta 140", "140 x", "2026-11-29", "\N{EN DASH}", ""]
    assert await page.evaluate("texts => texts.map(amount)", names) == [None] * len(names)
    await page.close()


async def test_a_list_that_goes_on_is_sorted_where_it_is_whole(pages: Pages) -> None:
    for order, head in (
        ("name", "Probe"),
        ("registered", "Registered"),
        ("last_viewed", "Last viewed"),
        ("bytes", "A night reads"),
    ):
        page = await shown(pages.client, f"/unused?product=fog&channel=beta&order={order}")
        answer = await answered(pages.client, f"/v1/unused?product=fog&channel=beta&window=90d&order={order}")
        listed = [one.text for one in page.all("a") if one.text in {probe["probe"] for probe in answer["probes"]}]
        assert listed == [probe["probe"] for probe in answer["probes"]] != []
        [sorted_by] = [one.text for one in page.all("th") if "aria-sort" in one.attributes]
        assert sorted_by == head
