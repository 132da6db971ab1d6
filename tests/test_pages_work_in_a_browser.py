"""In a browser: charts are drawn under the pages' policy, a build is followed to its plot, and nobody is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from browser.chromium import arguments, chromium
from tests.building import claim, complete, progress
from tests.pages import CATEGORIES, MISSING, NUMERIC, RUNNING, Pages, filled_pages

CHROMIUM = chromium()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
PATHS = (
    "/?product=fog", f"/probes/fog/{NUMERIC}", f"/probes/fog/{CATEGORIES}", f"/probes/fog/{RUNNING}",
    "/builds?product=fog&state=failed", "/hotlist?product=fog", "/sessions?product=fog",
    "/probes?product=fog", "/login",
)  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(worker_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(worker_database_url) as pages:
        yield pages


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="browser")
async def one_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=Path(CHROMIUM or ""), args=arguments())
        yield browser
        await browser.close()


async def opened(pages: Pages, browser: Browser, path: str) -> tuple[Page, list[str]]:
    """The page, and what it complains of from then on."""
    viewport: ViewportSize = {"width": 1440, "height": 900}
    context = await browser.new_context(viewport=viewport, base_url=str(pages.client.make_url("/")))
    page, complaints = await context.new_page(), list[str]()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(path)
    return page, complaints


@pytest.mark.parametrize("path", PATHS)
async def test_charts_are_drawn_and_anybody_can_use_the_page(pages: Pages, browser: Browser, path: str) -> None:
    page, complaints = await opened(pages, browser, path)
    await looked_over(page, 1440)
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 360, "height": 800})
    await looked_over(page, 360)
    assert not complaints
    await page.context.close()


async def looked_over(page: Page, width: int) -> None:
    await expect(page.locator(".waits, [aria-busy]")).to_have_count(0, timeout=30_000)
    plots = await page.locator("[data-plot]").count()
    await expect(page.locator("[data-plot] canvas")).to_have_count(plots, timeout=30_000)
    await page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    found = await Axe().run(page)
    assert not found.response["violations"], found.generate_report()


async def test_a_build_is_followed_until_its_plot_is_there(pages: Pages, browser: Browser) -> None:
    page, complaints = await opened(pages, browser, f"/probes/fog/{MISSING}")
    await page.get_by_role("button", name="Build it now").click()
    await expect(page.get_by_text("Waiting for a builder")).to_be_visible()
    build = await pages.database.fetchval("SELECT build_id FROM builds WHERE probe = $1", MISSING)
    attempt = await claim(pages.database, build)
    await expect(page.get_by_text("A builder has begun.")).to_be_visible()
    await progress(pages.database, build, attempt, percent=70)
    await expect(page.get_by_text("querying, 70 %")).to_be_visible()
    assert await page.locator("progress").evaluate("shown => shown.value") == 70
    await complete(pages.database, build, attempt)
    await expect(page.get_by_text("Version 140, all builds")).to_be_visible()
    assert not complaints
    await page.context.close()


async def test_the_search_is_used_by_keyboard(pages: Pages, browser: Browser) -> None:
    page, _ = await opened(pages, browser, "/?product=fog")
    await page.keyboard.press("/")
    await page.keyboard.type("gc_m")
    await expect(page.get_by_role("option").first).to_be_visible()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(NUMERIC)
    await page.context.close()


async def test_operators_pin_and_lift_by_a_button(pages: Pages, browser: Browser) -> None:
    page, _ = await opened(pages, browser, "/hotlist?product=fog")
    await page.get_by_role("button", name=f"Exclude {MISSING}").click()
    lift = page.get_by_role("button", name=f"Lift the rule of {MISSING}")
    await expect(lift).to_be_visible()
    assert await pages.database.fetchval("SELECT rule FROM hotlist_rules WHERE probe = $1", MISSING) == "excluded"
    await lift.click()
    await expect(lift).to_have_count(0)
    await page.context.close()
