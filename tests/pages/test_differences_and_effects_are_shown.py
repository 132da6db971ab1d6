"""Pages compare two choices of a probe's rows, name the builds that moved, and show what releases do to views."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio

from tests.support.building import asked, claim
from tests.support.pages import CATEGORIES, MISSING, NASTY, NUMERIC, Pages, Shown, answered, filled_pages, shown

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = f"/probes/fog/{NUMERIC}/comparison"
MOVED = """
INSERT INTO probe_rows (product, channel, probe, built_by, version, ping_type, os, build_id, metric_type, metric_key,
                        client_agg_type, total_users, total_sample, histogram, percentiles, non_norm_histogram,
                        non_norm_percentiles)
SELECT 'fog', 'nightly', $1, $2, 150, '*', '*', '20261101' || lpad(hour::text, 2, '0'), 'timing_distribution', '',
       'summed_histogram', 900, 9000, histogram, '{"50": 1}', histogram, '{"50": 1}'
FROM generate_series(0, 11) AS hour
CROSS JOIN LATERAL (SELECT CASE WHEN hour < 7 THEN '{"0": 0.5, "100": 0.5}' ELSE '{"0": 0.3, "100": 0.7}' END::json
                    AS histogram) h
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


def chosen(page: Shown) -> dict[str, str]:
    """Return the choices of the form by name."""
    selects = [element for element in page.elements if element.tag in ("select", "option")]
    found: dict[str, str] = {}
    name = ""
    for element in selects:
        if element.tag == "select":
            name = str(element.attributes["name"])
        elif "selected" in element.attributes:
            found[name] = str(element.attributes["value"])
    return found


async def test_by_default_the_newest_version_is_compared_with_the_one_before(pages: Pages) -> None:
    page = await shown(pages.client, PATH)
    answer = await answered(pages.client, f"/v1{PATH}?channel=nightly&version=140&with_version=141")
    [figure] = page.charts()
    drawn = figure["datasets"]["rows"]
    assert {row["side"] for row in drawn} == {"version 140", "version 141"}
    for side, name in (("first", "version 140"), ("second", "version 141")):
        filled = {float(start): share for start, share in answer[side]["histogram"].items() if share}
        assert {row["from"]: row["share"] for row in drawn if row["side"] == name} == filled
    assert (chosen(page)["version"], chosen(page)["with_version"]) == ("140", "141")
    assert "No difference beyond chance was found." in page.all("main")[0].text


async def test_the_address_holds_both_sides(pages: Pages) -> None:
    """Also labels that would do harm as HTML."""
    query = urlencode({"version": 141, "os": "Windows", "metric_key": "a", "with_metric_key": NASTY, "with_os": "*"})
    page = await shown(pages.client, f"{PATH}?{query}")
    assert (chosen(page)["os"], chosen(page)["with_os"], chosen(page)["with_metric_key"]) == ("Windows", "*", NASTY)
    [figure] = page.charts()
    assert {row["side"] for row in figure["datasets"]["rows"]} == {"Windows, label a", f"all systems, label {NASTY}"}


async def test_categories_and_numbers_are_not_drawn_together(pages: Pages) -> None:
    page = await shown(pages.client, f"{PATH}?with_probe={CATEGORIES}&with_metric_key=&with_version=141")
    assert page.charts() == []
    other = await shown(pages.client, f"/probes/fog/{CATEGORIES}/comparison?with_build_id=2026110109")
    [figure] = other.charts()
    assert {row["category"] for row in figure["datasets"]["rows"]} == {"always", NASTY}


async def test_what_cannot_be_compared_is_said(pages: Pages) -> None:
    assert "never built" in (await shown(pages.client, f"/probes/fog/{MISSING}/comparison")).all("main")[0].text
    none = await shown(pages.client, f"{PATH}?with_version=1")
    assert "version 1" in none.all("main")[0].text
    await shown(pages.client, "/probes/fog/nothing_like_it/comparison", 404)


async def test_a_build_that_moved_leads_to_its_comparison(pages: Pages) -> None:
    build = await asked(pages.client, MISSING)
    attempt = await claim(pages.database, build)
    async with pages.database.transaction():
        await pages.database.execute(MOVED, MISSING, build)
        await pages.database.execute("SELECT complete_build($1, $2, 1000)", build, attempt)
    page = await shown(pages.client, f"/probes/fog/{MISSING}/comparison")
    [link] = [element for element in page.all("a") if element.text == "2026110107"]
    compared = await shown(pages.client, str(link.attributes["href"]))
    assert (chosen(compared)["build_id"], chosen(compared)["with_build_id"]) == ("2026110106", "2026110107")
    words = compared.all("main")[0].text
    assert "They differ beyond chance." in words
    expected = "50% of the clients of build 2026110106 and 70% of build 2026110107 have a value of at least 100 ns"
    assert expected in words


async def test_releases_are_shown_over_a_short_and_a_long_period(pages: Pages) -> None:
    page = await shown(pages.client, "/releases?product=fog&window=7d")
    short, long = page.charts()
    assert len({row["start"] for row in short["datasets"]["rows"]}) == 7
    assert len({row["start"] for row in long["datasets"]["rows"]}) >= 52
    [mark] = short["datasets"]["releases"]
    assert mark["releases"] == "beta 142, nightly 143, release 141"
    answer = await answered(pages.client, "/v1/releases/impact?product=fog")
    links = [element for element in page.all("a") if "at=" in str(element.attributes.get("href"))]
    names = {f"{one['channel']} {one['version']}" for one in answer["releases"]}
    assert {link.text for link in links} >= names
    [section] = [one for one in page.all("div") if "/releases/probes" in str(one.attributes.get("data-load"))]
    probes = await pages.client.get(str(section.attributes["data-load"]), headers={"Accept": "text/html"})
    assert "No probe has enough views" in await probes.text()


async def test_other_marks_are_shown_too_and_links_keep_them(pages: Pages) -> None:
    page = await shown(pages.client, "/releases?product=fog&marks=x_said")
    assert "Events of the type x_said" in page.all("h1")[0].text
    marks = page.all("input", name="marks")
    assert {field.attributes["value"] for field in marks} == {"x_said"}
    assert len([field for field in marks if field.attributes.get("type") != "hidden"]) == 1
    assert all("marks=x_said" in str(link.attributes["href"]) for link in page.all("a") if link.text == "Overview")
    overview = await shown(pages.client, "/?product=fog&marks=x_said")
    assert {row["releases"] for row in overview.charts()[0]["datasets"]["releases"]} == {"event"}
    assert len(overview.all("input", name="marks", type="hidden")) == 2  # the search and the filters keep them
    await shown(pages.client, f"/releases?marks={quote('probe_viewed')}", 422)
