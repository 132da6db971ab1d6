"""Where this machine's Chromium is, and how it is started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
DRAWN_MILLISECONDS = 30_000


class NoChromiumError(Exception):
    """There is no Chromium on this machine; the message says how to get one."""


def chromium() -> str | None:
    """Its path, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def arguments() -> list[str]:
    """What it is started with: as root it refuses to run with its sandbox."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window, gone at the end; raises NoChromiumError."""
    path = chromium()
    if path is None:
        raise NoChromiumError(
            "no Chromium is installed (looked for " + ", ".join(NAMES) + "): apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments())
        try:
            yield browser
        finally:
            browser.close()


def wait_until_drawn(page: Page) -> None:
    """Waits until each chart is on the page, and each part that comes later."""
    expect(page.locator(".waits, [aria-busy]")).to_have_count(0, timeout=DRAWN_MILLISECONDS)
    plots = page.locator("[data-plot]").count()
    expect(page.locator("[data-plot] canvas")).to_have_count(plots, timeout=DRAWN_MILLISECONDS)
