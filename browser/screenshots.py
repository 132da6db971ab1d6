"""Screenshots of the pages for the documents, on sample data: `python -m browser.screenshots`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, Page, ViewportSize, expect
from rich.console import Console

from browser.chromium import NoChromiumError, open_browser, wait_until_drawn
from browser.sample_stack import SampleStack, StackError, sample_stack

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 200_000
BUILD_MILLISECONDS = 60_000
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
BUILT = "devtools_cold_toolbox_open_delay"


class Picture(NamedTuple):
    """A page and how it is shown when its picture is taken."""

    path: str
    viewport: ViewportSize = DESK
    scheme: Literal["light", "dark"] = "light"


# One week of the sample's two, so that there is a week before to compare with.
PICTURES = {
    "overview": Picture("/?product=fog&window=7d"),
    "probe": Picture(f"/probes/fog/{BUILT}?window=7d"),
    "hotlist": Picture("/hotlist?product=fog&budget=20"),
    "sessions": Picture("/sessions?product=fog", scheme="dark"),
    "phone": Picture(f"/probes/fog/{BUILT}?window=7d", PHONE),
}


def main() -> None:
    """Write docs/images; exit with one line that says what is missing."""
    try:
        with open_browser() as browser, sample_stack() as stack:
            _build(browser, stack)
            for name, picture in PICTURES.items():
                _take(browser, stack, picture, IMAGES / f"{name}.png")
    except (NoChromiumError, StackError) as error:
        sys.exit(f"screenshots: {error}")


def _signed_in(browser: Browser, stack: SampleStack, picture: Picture) -> Page:
    """Open a page as a person does: by signing in with the token."""
    context = browser.new_context(viewport=picture.viewport, color_scheme=picture.scheme, base_url=stack.url)
    page = context.new_page()
    page.goto(picture.path)
    page.get_by_label("Token").fill(stack.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Up to date with the log")).to_be_visible()
    return page


def _build(browser: Browser, stack: SampleStack) -> None:
    page = _signed_in(browser, stack, PICTURES["probe"])
    page.get_by_role("button", name="Build it now").click()
    expect(page.get_by_text("all builds, all systems")).to_be_visible(timeout=BUILD_MILLISECONDS)
    page.context.close()


def _take(browser: Browser, stack: SampleStack, picture: Picture, path: Path) -> None:
    page = _signed_in(browser, stack, picture)
    wait_until_drawn(page)
    size = len(page.screenshot(path=path))
    page.context.close()
    Console().print(f"{path}: {size:,} bytes", highlight=False)
    if size > MOST_BYTES:
        sys.exit(f"screenshots: {path} is larger than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
