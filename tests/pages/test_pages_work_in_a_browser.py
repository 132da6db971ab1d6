"""Pages work in a browser: charts are drawn, a build is followed to its chart, and all is accessible."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from browser.chromium import arguments, chromium
from tests.support.building import asked, claim, complete, progress, served
from tests.support.pages import CATEGORIES, MISSING, NIGHT, NUMERIC, RESTARTED, RUNNING, Pages, filled_pages
from tests.support.proxy import proxied
from tests.support.servers import eventually
from usage_service.tokens import create_token, revoke_tokens

CHROMIUM = chromium()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.timeout(300),
]
MOST_MILLISECONDS = 60_000  # a browser among three other workers of two slow cores
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
        const whole = parent.closest("button") ? /\\S.*\\S/g : part;
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
)  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="browser")
async def one_browser() -> AsyncIterator[BrowserContext]:
    """Start a browser that caches what it loaded, as a person's does."""
    expect.set_options(timeout=MOST_MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=Path(CHROMIUM or ""), args=arguments())
        context = await browser.new_context(viewport={"width": 1440, "height": 900})
        context.set_default_timeout(MOST_MILLISECONDS)
        yield context
        await browser.close()


async def opened(pages: Pages, browser: BrowserContext, path: str) -> tuple[Page, list[str]]:
    """Open a page; return it and the list of its complaints: errors on its console, and requests to other hosts."""
    base = str(pages.client.make_url("/"))
    page, complaints = await browser.new_page(), list[str]()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(base) else complaints.append(asked.url))
    await page.goto(urljoin(base, path))
    return page, complaints


@pytest.mark.parametrize("path", PATHS)
async def test_charts_are_drawn_and_anybody_can_use_the_page(pages: Pages, browser: BrowserContext, path: str) -> None:
    page, complaints = await opened(pages, browser, path)
    await looked_over(page, 1440)
    await page.set_viewport_size({"width": 1024, "height": 800})
    assert await page.evaluate(BROKEN_WORDS) == []
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 360, "height": 800})
    await looked_over(page, 360)
    assert not complaints
    await page.close()


async def looked_over(page: Page, width: int) -> None:
    await expect(page.locator(".waits, [aria-busy]")).to_have_count(0)
    plots = await page.locator("[data-plot]").count()
    await expect(page.locator("[data-plot] canvas")).to_have_count(plots)
    await page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    assert await page.evaluate(BROKEN_WORDS) == []
    if width < 600:
        assert await page.locator("table.cards tbody tr").evaluate_all(CARDS) in ([], ["flex"])
        assert await page.evaluate(SCROLLED_CARDS) == []
    found = await Axe().run(page)
    assert not found.response["violations"], found.generate_report()


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
