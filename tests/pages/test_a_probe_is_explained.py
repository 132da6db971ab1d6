"""The page of a probe explains it: what the catalogue says, where else it is shown, and who misses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import pytest_asyncio

from tests.conftest import SECRET
from tests.support.pages import MISSING, NUMERIC, Pages, answered, filled_pages, shown
from tests.support.servers import drained_projections, event, post, registered
from usage_service.shared.settings import ServerSettings, SettingsError, load_settings
from usage_service.web.pages.presentation.links import probe_links

on_the_loop = pytest.mark.asyncio(loop_scope="module")
NEEDED = {"DATABASE_URL": "postgresql://x", "USAGE_SERVICE_VISITOR_SECRET": SECRET}
SETTINGS = load_settings(ServerSettings, NEEDED)


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url, looker_link="none") as pages:
        yield pages


@on_the_loop
async def test_it_is_described_and_leads_elsewhere(pages: Pages) -> None:
    told = {
        "type": "timing_distribution", "ping": "metrics", "description": "How long a <b>collection</b> took.",
        "owners": ["gc@example.org"], "expires": "never", "link": "https://example.org/metrics.yaml",
    }  # fmt: skip
    await post(pages.client, event("probe_registered", probe="told_ms", visitor=None, data=told))
    await drained_projections(pages.database)
    page = await shown(pages.client, "/probes/fog/told_ms?product=fog&channel=beta")
    text = page.all("main")[0].text
    for words in (told["description"], "gc@example.org", "timing distribution", "never", "metrics"):
        assert str(words) in text
    links = {one.text: one.attributes["href"] for one in page.all("a", rel="external noreferrer")}
    assert links == {
        "Where it is defined": "https://example.org/metrics.yaml",
        "GLAM": "https://glam.telemetry.mozilla.org/fog/probe/told_ms/explore?app_id=beta",
        "Glean Dictionary": "https://dictionary.telemetry.mozilla.org/apps/firefox_desktop/metrics/told_ms",
        "Searchfox": "https://searchfox.org/mozilla-central/search?q=told_ms",
    }


def test_a_pattern_takes_what_there_is_of_a_probe_and_nothing_else() -> None:
    links = probe_links(SETTINGS, "fenix", "a.b_c/<d>", "release", ["some-ping"])
    assert links["Looker"] == "https://mozilla.cloud.looker.com/explore/fenix/some_ping"
    assert links["Searchfox"].endswith("?q=a_b_c%2F%3Cd%3E")
    own = msgspec.structs.replace(
        SETTINGS, glam_link="none", looker_link="https://x.example/{product}?{channel}={ping}"
    )
    assert probe_links(own, "klar", "x", "beta", [])["Looker"] == "https://x.example/klar?beta=metrics"
    assert "GLAM" not in probe_links(own, "klar", "x", "beta", [])
    for wrong in ("javascript:alert(1)", "https://x/{secret}", "https://x/{", "http://x y", "", "nothing"):
        if wrong:
            with pytest.raises(SettingsError, match="USAGE_SERVICE_GLAM_LINK"):
                load_settings(ServerSettings, NEEDED | {"USAGE_SERVICE_GLAM_LINK": wrong})


@on_the_loop
async def test_who_misses_a_probe_is_told(pages: Pages) -> None:
    since = (datetime.now(UTC) - timedelta(days=9)).date()
    told = await answered(pages.client, f"/v1/probes/fog/{MISSING}/misses?since={since}")
    [channel] = told["channels"]
    assert (channel["channel"], channel["found"], channel["missing"]) == ("nightly", 0, 4)
    assert told["visitors"] == 4
    sessions = (await answered(pages.client, f"/v1/sessions?product=fog&since={since}"))["sessions"]
    assert {(one["visitor"], one["started_at"]) for one in told["sessions"]} == {
        (one["visitor"], one["started_at"]) for one in sessions if MISSING in one["probes"]
    }
    assert (
        len((await answered(pages.client, f"/v1/probes/fog/{MISSING}/misses?since={since}&limit=1"))["sessions"]) == 1
    )
    page = await shown(pages.client, f"/probes/fog/{MISSING}?product=fog")
    [section] = page.all("section", **{"aria-labelledby": "h-misses"})
    assert "4 views found nothing" in section.text
    assert "4 people" in section.text
    for one in told["sessions"]:
        await shown(pages.client, f"/sessions/{one['visitor']}/{one['started_at']}?product=fog")
    page = await shown(pages.client, f"/probes/fog/{NUMERIC}?product=fog")
    [section] = page.all("section", **{"aria-labelledby": "h-misses"})
    assert "Nobody viewed it in these days without finding data." in section.text


@on_the_loop
async def test_a_view_by_a_bot_or_of_another_product_is_no_miss(pages: Pages) -> None:
    await post(pages.client, registered("quiet_ms"), registered("quiet_ms", product="fenix"))
    at = {"occurred_at": datetime.now(UTC).isoformat(), "probe": "quiet_ms"}
    await post(
        pages.client,
        event("probe_viewed", data={"found": False, "bot": True}, **at),
        event("probe_viewed", data={"found": False}, product="fenix", **at),
    )
    await drained_projections(pages.database)
    told = await answered(pages.client, "/v1/probes/fog/quiet_ms/misses")
    assert (told["channels"], told["visitors"], told["sessions"]) == ([], 0, [])
    assert (await answered(pages.client, "/v1/probes/fenix/quiet_ms/misses"))["visitors"] == 1
