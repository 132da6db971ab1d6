"""Pages work in a browser: charts are drawn, a build is followed to its chart, and all is accessible."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import cycle
from typing import Literal
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, Route, expect

from tests.support.browsers import DESKTOP, accessible, browser_context, needs_chromium
from tests.support.building import asked, claim, complete, progress, served
from tests.support.pages import CATEGORIES, MISSING, NIGHT, NUMERIC, RESTARTED, RUNNING, Pages, filled_pages
from tests.support.proxy import proxied
from tests.support.servers import eventually
from usage_service.tokens import create_token, revoke_tokens

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_chromium,
    pytest.mark.timeout(300),
]
# Words of tables, dates and buttons that are on two lines; a name's parts are words.
BROKEN_WORDS = """() => {
    const lines = (node, from, to) => {
        const range = document.createRange();
        range.setStart(node, from); range.setEnd(node, to);
        return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
    };
    const broken = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, parent = node.parentElement;
        if (!parent?.closest("td, th, button") || parent.closest("script, .hidden, .matrix")) continue;
        if (parent.closest(".cards thead") && innerWidth < 600) continue;
        const part = /\\d{4}-\\d\\d-\\d\\d( \\d\\d:\\d\\d)?|(?<![^ ])[a-zA-Z0-9]+(?![^ ])/g;
        const whole = parent.closest("button:not(.sorts)") ? /\\S.*\\S/g : part;
        for (const word of node.data.matchAll(whole)) {
            if (lines(node, word.index, word.index + word[0].length) > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""
CARDS = "rows => [...new Set(rows.map((row) => getComputedStyle(row).display))]"
SCROLLED_CARDS = """() => [...document.querySelectorAll(".wide:has(> table.cards)")]
    .filter((place) => place.scrollWidth > place.clientWidth).map((place) => place.textContent.slice(0, 200))"""
PATHS = (
    "/?product=fog", f"/probes/fog/{NUMERIC}", f"/probes/fog/{CATEGORIES}", f"/probes/fog/{RUNNING}",
    "/builds?product=fog&state=failed", "/hotlist?product=fog", "/sessions?product=fog",
    "/probes?product=fog", "/unused?product=fog&window=1d", "/nights?product=fog", f"/nights/{NIGHT}", "/login",
    f"/probes/fog/{NUMERIC}/comparison", f"/probes/fog/{CATEGORIES}/comparison?with_build_id=2026110109",
    "/releases?product=fog", "/releases?product=fog&marks=x_said",
)  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="browser")
async def one_browser() -> AsyncIterator[BrowserContext]:
    async with browser_context() as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tab(browser: BrowserContext) -> Page:
    """Open a tab for one page after the other: it has compiled the charts' script, which a new one does anew."""
    return await browser.new_page()


async def opened(pages: Pages, browser: BrowserContext, path: str, tab: Page | None = None) -> tuple[Page, list[str]]:
    """Open a page; return it and the list of its complaints: errors on its console, and requests to other hosts."""
    base = str(pages.client.make_url("/"))
    page, complaints = tab or await browser.new_page(), list[str]()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(base) else complaints.append(asked.url))
    await page.goto(urljoin(base, path))
    return page, complaints


# Each is looked at in all sizes, and judged by axe in one of them: every other one light on a desk, or dark on a phone.
@pytest.mark.parametrize(("path", "judged"), list(zip(PATHS, cycle((1440, 360)), strict=False)))
async def test_charts_are_drawn_and_anybody_can_use_the_page(
    pages: Pages, browser: BrowserContext, tab: Page, path: str, judged: int
) -> None:
    await tab.emulate_media(color_scheme="light")
    await tab.set_viewport_size(DESKTOP)
    page, complaints = await opened(pages, browser, path, tab)
    await looked_over(page, 1440, judged)
    await page.set_viewport_size({"width": 1024, "height": 800})
    assert await page.evaluate(BROKEN_WORDS) == []
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 360, "height": 800})
    await looked_over(page, 360, judged)
    assert not complaints


async def looked_over(page: Page, width: int, judged: int) -> None:
    await expect(page.locator(".waits, [aria-busy]")).to_have_count(0)
    plots = await page.locator("[data-plot]").count()
    await expect(page.locator("[data-plot] canvas")).to_have_count(plots)
    await page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    assert await page.evaluate(BROKEN_WORDS) == []
    if width < 600:
        assert await page.locator("table.cards tbody tr").evaluate_all(CARDS) in ([], ["flex"])
        assert await page.evaluate(SCROLLED_CARDS) == []
    if width == judged:
        await accessible(page)


async def test_a_build_is_followed_until_its_plot_is_there(pages: Pages, browser: BrowserContext) -> None:
    page, complaints = await opened(pages, browser, f"/probes/fog/{MISSING}")
    await page.get_by_role("button", name="Build it now").click()
    await expect(page.get_by_text("Waiting for a builder")).to_be_visible()
    await expect(page.get_by_text("No builder is running. None was seen for a day.")).to_be_visible()
    await pages.database.execute("INSERT INTO builders VALUES ('one', now() + interval '1 hour')")
    await expect(page.get_by_text("1 builder is running")).to_be_visible()
    await page.get_by_role("button", name="Cancel").focus()
    build = await pages.database.fetchval("SELECT build_id FROM builds WHERE probe = $1", MISSING)
    attempt = await claim(pages.database, build)
    await expect(page.get_by_text("A builder has started.")).to_be_visible()
    await expect(page.get_by_text("Being built")).to_be_visible()
    await expect(page.get_by_text("Waiting for a builder")).to_have_count(0)
    await pages.database.execute("UPDATE builders SET seen_at = now() - interval '5 minutes'")
    await expect(page.get_by_text("No builder is running. One was last seen 5 min")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await pages.database.execute("DELETE FROM builders")
    await progress(pages.database, build, attempt, percent=70)
    await expect(page.get_by_text("querying, 70 %")).to_be_visible()
    assert await page.locator("progress").evaluate("shown => shown.value") == 70
    await complete(pages.database, build, attempt, rows=2)
    await expect(page.get_by_text("Version 141, all builds")).to_be_visible()
    await expect(page.locator("select[name=version]")).to_be_visible()  # what there is to choose from came with it
    assert not complaints
    await page.close()


async def test_people_sign_in_and_out_and_are_out_when_their_token_is_revoked(
    pages: Pages, browser: BrowserContext, worker_database_url: str
) -> None:
    token = await create_token(pages.database, "person", ["read"], timedelta(days=1))
    page = await browser.new_page()
    async with served(worker_database_url, token="the operator's own token") as client:
        await page.goto(str(client.make_url("/builds")))
        await signed_in(page, "another token")
        await expect(page.get_by_text("this token is not valid")).to_be_visible()
        await signed_in(page, token)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        await signed_in(page, token)
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert token not in str(await browser.cookies())
        assert await page.evaluate("document.cookie") == ""
        await revoke_tokens(pages.database, "person")

        async def is_out() -> bool:
            await page.reload()
            return await page.get_by_label("Token").is_visible()

        await eventually(is_out, "the page asks for a token", seconds=60)
    await page.close()
    await browser.clear_cookies()


async def signed_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


async def test_progress_goes_on_after_the_server_was_started_again(
    pages: Pages, browser: BrowserContext, worker_database_url: str
) -> None:
    build = await asked(pages.client, RESTARTED)
    attempt = await claim(pages.database, build)
    async with AsyncExitStack() as first:
        before = await first.enter_async_context(served(worker_database_url))
        async with proxied(str(before.make_url("/"))) as (proxy, url):
            page = await browser.new_page()
            await page.goto(urljoin(url, f"/probes/fog/{RESTARTED}"))
            await progress(pages.database, build, attempt, percent=30)
            await expect(page.get_by_text("querying, 30 %")).to_be_visible()
            proxy.cut()
            await first.aclose()
            await progress(pages.database, build, attempt, percent=80)
            async with served(worker_database_url) as after:
                proxy.lead_to(after.host, after.port or 0)
                await expect(page.get_by_text("querying, 80 %")).to_be_visible()
                await complete(pages.database, build, attempt)
                await expect(page.get_by_text("Version 140, all builds")).to_be_visible()
                await page.close()


async def test_a_link_leads_to_what_was_chosen(pages: Pages, browser: BrowserContext) -> None:
    page, complaints = await opened(pages, browser, f"/probes/fog/{NUMERIC}?window=7d&version=140")
    await page.locator("select[name=os]").select_option("Windows")
    await page.wait_for_url("**os=Windows**")
    again, _ = await opened(pages, browser, page.url)
    for name, value in {"os": "Windows", "version": "140", "window": "7d", "product": "fog"}.items():
        await expect(again.locator(f"select[name={name}]")).to_have_value(value)
    await expect(again.get_by_text("Version 140, all builds, Windows")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_text("Version 140, all builds, all systems")).to_be_visible()
    await expect(page.locator("select[name=os]")).to_have_value("*")
    await page.locator("select[name=product]").select_option("fenix")
    await page.wait_for_url("**/probes/fenix/**")
    await expect(page.locator("select[name=product]")).to_have_value("fenix")
    await page.go_back()
    await page.wait_for_url("**/probes/fog/**")
    await expect(page.locator("select[name=product]")).to_have_value("fog")
    assert not complaints
    await page.close()
    await again.close()


async def test_the_search_is_used_by_keyboard(pages: Pages, browser: BrowserContext) -> None:
    page, _ = await opened(pages, browser, "/?product=fog")
    await page.keyboard.press("/")
    await page.keyboard.type("gc_m")
    await expect(page.get_by_role("option").first).to_be_visible()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(NUMERIC)
    await page.close()


async def test_operators_pin_and_lift_by_a_button(pages: Pages, browser: BrowserContext) -> None:
    page, _ = await opened(pages, browser, "/hotlist?product=fog")
    await page.get_by_role("button", name=f"Exclude {MISSING}").click()
    remove = page.get_by_role("button", name=f"Remove the rule of {MISSING}")
    await expect(remove).to_be_visible()
    assert await pages.database.fetchval("SELECT rule FROM hotlist_rules WHERE probe = $1", MISSING) == "excluded"
    await remove.click()
    await expect(remove).to_have_count(0)
    await page.close()


async def test_a_chart_is_read_and_zoomed_by_keyboard(pages: Pages, browser: BrowserContext) -> None:
    page, complaints = await opened(pages, browser, f"/probes/fog/{NUMERIC}?label=a&version=141")
    await expect(page.locator(".waits")).to_have_count(0)
    chart, tip = page.locator("[data-plot]").first, page.locator(".tip:visible")
    whole = page.locator("figure").first.get_by_text("Show all days")
    await chart.focus()
    await page.keyboard.press("End")
    await expect(tip).to_have_text("2026-11-03 09:00, version 14195 %1 µs75 %100 nsmedian10 ns25 %10 ns5 %1 ns")
    await page.keyboard.press("Shift+ArrowLeft")
    await expect(tip).to_contain_text("2026-11-02 09:00")
    await expect(page.locator(".brush:visible")).to_have_count(1)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**zoom=2026-11-02T09%3A00Z%2F2026-11-03T09%3A00Z")
    await expect(whole).to_have_count(1)
    await page.keyboard.press("Home")
    await expect(tip).to_contain_text("2026-11-02 09:00")
    await page.locator("select[name=os]").select_option("Windows")
    await expect(page.get_by_text("Version 141, all builds, Windows")).to_be_visible()
    await expect(whole).to_have_count(1)  # a filter keeps it, and so does loading the page again
    await whole.click()
    await expect(whole).to_have_count(0)
    assert "zoom" not in page.url
    await page.go_back()
    await expect(whole).to_have_count(1)
    await chart.focus()
    await page.keyboard.press("Escape")
    await expect(whole).to_have_count(0)
    assert not complaints
    await page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
async def test_charts_of_days_are_read_and_zoomed_together(
    pages: Pages, browser: BrowserContext, width: int, scheme: Literal["light", "dark"]
) -> None:
    page, complaints = await opened(pages, browser, "/?product=fog&window=7d")
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)
    await expect(page.locator(".waits")).to_have_count(0)
    chart = page.locator("[data-plot]").first
    await chart.scroll_into_view_if_needed()
    box = await chart.bounding_box()
    assert box
    row = box["y"] + box["height"] / 2
    await page.mouse.move(box["x"] + box["width"] - 12, row)
    tip = page.locator(".tip:visible")
    await expect(tip).to_contain_text("not over yet")
    await expect(tip.locator("dt")).to_have_text(["data found", "not built", "total"])
    assert await tip.evaluate(f"tip => [...tip.getClientRects()].every((box) => box.left >= 0 && box.right <= {width})")
    await page.mouse.move(box["x"] + box["width"] * 0.4, row)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.8, row, steps=3)
    await page.mouse.up()
    await expect(page.get_by_text("Show all days")).to_have_count(3)
    assert "zoom=" in page.url
    await accessible(page)
    await page.get_by_text("Show all days").last.click()
    await expect(page.get_by_text("Show all days")).to_have_count(0)
    assert not complaints
    await page.close()


async def test_a_value_is_whole_on_hover(pages: Pages, browser: BrowserContext) -> None:
    page, _ = await opened(pages, browser, f"/probes/fog/{NUMERIC}?label=a&version=141")
    by_version = page.get_by_role("group", name="By version")
    await expect(by_version.get_by_title("1,000 ns").first).to_have_text("1 µs")
    await page.close()


async def test_a_page_of_what_goes_on_is_renewed_though_it_was_hidden_and_the_service_away(
    pages: Pages, browser: BrowserContext
) -> None:
    page = await browser.new_page()
    await page.add_init_script("""
        const wait = setTimeout;
        window.setTimeout = (work, milliseconds) => wait(work, milliseconds / 40);
        Object.defineProperty(document, "hidden", { get: () => Boolean(window.isAway) });
    """)
    await page.goto(urljoin(str(pages.client.make_url("/")), "/builds?product=fog"))
    await page.evaluate("isAway = true")
    await page.wait_for_timeout(500)
    away = [500, 503, 0]

    async def answer(route: Route) -> None:
        if not away:
            await route.continue_()
        elif status := away.pop():
            await route.fulfill(status=status, content_type="text/html", body="<main>It is away.</main>")
        else:
            await route.abort()

    await page.route("**/builds?product=fog", answer)
    shown = await page.locator("[data-pending]").element_handle()
    await page.evaluate("isAway = false")
    await page.wait_for_function("shown => !shown.isConnected", arg=shown)
    assert not away
    await expect(page.locator("[data-pending]")).to_have_count(1)
    await page.close()


async def test_a_renewed_page_keeps_nothing_of_the_one_before(pages: Pages, browser: BrowserContext) -> None:
    page, complaints = await opened(pages, browser, f"/probes/fog/{RUNNING}")
    await expect(page.locator("[data-build]")).to_have_count(1)
    for _ in range(8):  # more than a browser has connections to a host
        await page.evaluate("renew()")
    await expect(page.locator("[data-build]")).to_have_count(1)
    await page.goto(urljoin(page.url, f"/probes/fog/{NUMERIC}"))
    await expect(page.locator(".waits")).to_have_count(0)
    plots = await page.locator("[data-plot]").count()
    await page.evaluate("""() => {
        window.ended = 0;
        for (const { view } of drawn.values()) {
            const end = view.finalize;
            view.finalize = () => { ended++; end.call(view); };
        }
    }""")
    await page.evaluate("renew()")
    await page.wait_for_function(f"drawn.size === {plots} && ended === {plots}")
    assert not complaints
    await page.close()
