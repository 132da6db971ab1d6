"""Browsers of the tests: a context in a Chromium of its own; without Chromium such tests are skipped by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Page, ViewportSize, async_playwright, expect

from browser.chromium import arguments, chromium

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
MOST_MILLISECONDS = 60_000  # beside three other workers of two slow cores

needs_chromium = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")


@asynccontextmanager
async def browser_context(
    user_agent: str | None = None, permissions: Sequence[str] | None = None
) -> AsyncIterator[BrowserContext]:
    """Start a browser, which caches what it loaded as a person's does, and open a context in it."""
    expect.set_options(timeout=MOST_MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments())
        context = await browser.new_context(viewport=DESKTOP, user_agent=user_agent, permissions=permissions)
        context.set_default_timeout(MOST_MILLISECONDS)
        yield context
        await browser.close()


async def accessible(page: Page) -> None:
    """Check that axe finds nothing on the page that shuts somebody out."""
    found = await Axe().run(page)
    assert not found.response["violations"], found.generate_report()
