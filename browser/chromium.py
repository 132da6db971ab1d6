"""Chromium of this machine: find it, start it, and wait until a page is drawn."""

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
    """Return the path of Chromium, or None when it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def arguments() -> list[str]:
    """Return the arguments to start Chromium with: as root it refuses to run in its sandbox."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []


def needed_chromium() -> str:
    """Return the path of Chromium; raise NoChromiumError when it is not installed."""
    path = chromium()
    if path is None:
        raise NoChromiumError(
            "no Chromium is installed (looked for " + ", ".join(NAMES) + "): apt-get install chromium"
        )
    return path


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser without a window, and close it at the end; raise NoChromiumError."""
    path = needed_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments())
        try:
            yield browser
        finally:
            browser.close()


def wait_until_drawn(page: Page) -> None:
    """Wait until each chart, and each section that is loaded later, is on the page."""
    expect(page.locator(".waits, [aria-busy]")).to_have_count(0, timeout=DRAWN_MILLISECONDS)
    plots = page.locator("[data-plot]").count()
    expect(page.locator("[data-plot] canvas")).to_have_count(plots, timeout=DRAWN_MILLISECONDS)
