"""Each question of the analyst's guide is answered from the sample by the clicks that the guide says, five at most."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID, uuid5

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.support.browsers import accessible, browser_context, needs_chromium
from tests.support.building import served
from tests.support.servers import Client, connected, drained_projections, post, registered
from usage_service.local.sample import sample_traffic
from warehouse.sample.probes import sample_probes

GUIDE = Path(__file__).parents[2] / "docs/guides/analyst.md"
MOST_CLICKS = 5
SCREENS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((360, "light"), (1024, "dark"), (1440, "light"))
NAMESPACE = UUID("5b0c4a0e-0a53-4f4e-8f5e-2f4e9f1b7a11")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs_chromium,
    pytest.mark.timeout(300),
]


class Walk(NamedTuple):
    """A row of the guide: its question, the clicks from the overview, and the words that are there."""

    question: str
    clicks: list[tuple[str, str]]
    words: str


def walks() -> list[Walk]:
    rows = re.findall(r"^\| ([^|]+\?) \|([^|]*)\| `([^|`]+)` \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return [Walk(question, re.findall(r"\*\*([^*]+)\*\*|`([^`]+)`", clicks), words) for question, clicks, words in rows]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def sample_client(module_database_url: str) -> AsyncIterator[Client]:
    """Start a server with the events of the sample, of some visitors."""
    async with served(module_database_url) as client, connected(module_database_url) as database:
        probes = [(product, probe) for probe in sample_probes(60) for product in probe.products]
        made = sample_traffic([(product, probe.name) for product, probe in probes], datetime.now(UTC))
        made = (event for event in made if event.get("visitor", "0")[-1] in "03")
        known = [registered(probe.name, probe.type, product=product) for product, probe in probes]
        events = [{"event_id": str(uuid5(NAMESPACE, str(place)))} | one for place, one in enumerate([*known, *made])]
        for begin in range(0, len(events), 1_000):
            await post(client, *events[begin : begin + 1_000])
        await drained_projections(database)
        yield client


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="page")
async def one_page() -> AsyncIterator[Page]:
    async with browser_context() as context:
        yield await context.new_page()


def select(page: Page, name: str) -> Locator:
    """Return the filter of this name."""
    return page.locator(".filters label", has_text=re.compile(rf"^\s*{name}\s")).locator("select")


@pytest.mark.parametrize("walk", walks(), ids=lambda walk: walk.question)
async def test_a_question_is_answered_in_a_few_clicks(client: Client, page: Page, walk: Walk) -> None:
    assert len(walk.clicks) <= MOST_CLICKS
    await page.goto(str(client.make_url("/")))
    for link, choice in walk.clicks:
        await expect(page.locator("html.ready")).to_be_visible()
        if choice:
            name, _, option = choice.partition(": ")
            async with page.expect_navigation():
                await select(page, name).select_option(label=option)
        elif await (named := page.get_by_role("link", name=link, exact=True)).count():
            async with page.expect_navigation():
                await named.first.click()
        else:
            await page.locator("main summary", has_text=link).first.click()
    await expect(page.locator("[aria-busy]")).to_have_count(0)
    await expect(page.get_by_text(walk.words).locator("visible=true").first).to_be_visible()


async def test_the_guide_asks_what_the_record_asks() -> None:
    questions = " ".join(walk.question for walk in walks())
    assert len(walks()) >= 12
    for asked in (
        "most",
        "least",
        "typical session",
        "start",
        "in between",
        "another product",
        "short",
        "long",
        "release",
    ):
        assert asked in questions


@pytest.mark.parametrize("path", ["/?product=fog&compare=before", "/sessions?product=fog&compare=before"])
async def test_compared_days_are_shown_on_any_screen(client: Client, page: Page, path: str) -> None:
    await page.goto(str(client.make_url(path)))
    await expect(page.locator(".waits, [aria-busy]")).to_have_count(0)
    await page.get_by_text("Other days").click()
    await expect(page.locator("input[name=since]")).to_be_visible()
    for width, scheme in SCREENS:
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size({"width": width, "height": 900})
        await page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
    await accessible(page)


async def test_chosen_days_give_way_to_a_window(client: Client, page: Page) -> None:
    await page.goto(str(client.make_url("/sessions?product=fog&compare=before")))
    await page.get_by_text("Other days").click()
    await page.locator("input[name=since]").fill("2026-01-05")
    await page.locator("input[name=until]").fill("2026-01-07")
    await page.get_by_role("button", name="Show these days").click()
    await page.wait_for_url("**since=2026-01-05**until=2026-01-07**")
    await expect(select(page, "Days")).to_have_value("")
    await select(page, "Days").select_option(label="7 days")
    await page.wait_for_url("**window=7d**")
    assert "2026-01-05" not in page.url
    assert "compare=before" in page.url
