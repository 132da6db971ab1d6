"""Pages are well-formed, load nothing from elsewhere, run nothing that is written in them, and show names as text."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import vl_convert

from tests.support.bad_input import filled, named
from tests.support.pages import (
    CATEGORIES,
    FAILED,
    NASTY,
    NUMERIC,
    PARTS,
    PATHS,
    Pages,
    Shown,
    answered,
    filled_pages,
    shown,
)
from usage_service.web.openapi.operations import Route
from usage_service.web.pages.presentation.charts import SPECIFICATIONS, chart
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'",
    "connect-src": "'self'", "form-action": "'self'", "base-uri": "'none'", "frame-ancestors": "'none'",
}  # fmt: skip
MOST_BYTES = 600_000
DATASETS: dict[str, dict[str, list[dict[str, object]]]] = {
    "over_time": {"rows": [{"start": "2026-11-20T00:00:00Z", "series": "views", "value": 1}], "releases": []},
    "bands": {
        "bands": [{"start": "2026-11-20T00:00:00Z", "version": 1, "p5": 1, "p25": 2, "p50": 3, "p75": 4, "p95": 5}]
    },
    "histogram": {"buckets": [{"from": 1, "to": 2, "share": 1}]},
    "shares": {"shares": [{"start": "2026-11-20T00:00:00Z", "series": "always", "value": 1}]},
    "coverage": {
        "rows": [{"budget": 10, "policy": "best possible", "share": 1, "order": 0}],
        "others": [{"budget": 10, "policy": "most viewed", "share": 0.5, "order": 0}],
        "chosen": [{"budget": 10}],
    },
}


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_well_formed_and_needs_nothing_else(pages: Pages, path: str) -> None:
    response = await pages.client.get(path, headers={"Accept": "text/html"})
    page = Shown(await response.text())
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "private" in response.headers["Cache-Control"]
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"], element
        for name in ("href", "src", "action", "data-vega", "data-load", "data-to"):
            value = element.attributes.get(name)
            assert value is None or (value.startswith(("/", "#")) and not value.startswith("//")), element
        if element.tag == "script" and element.attributes.get("type") != "application/json":
            assert element.attributes["src"]
            assert not element.text
    assert not page.all("style")
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith(PARTS)])
async def test_a_page_can_be_used_without_seeing_it(pages: Pages, path: str) -> None:
    page = await shown(pages.client, path)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("title")[0].text.strip()
    assert len(page.all("h1")) == len(page.all("main")) == 1
    labelled = {label.attributes.get("for") for label in page.all("label")}
    for element in page.elements:
        if element.tag == "input" and element.attributes.get("type") != "hidden" and "id" in element.attributes:
            assert element.attributes["id"] in labelled
        if element.tag == "button":
            assert element.text.strip() or element.attributes.get("aria-label")
        if element.tag == "svg":
            assert element.attributes["aria-label"]
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(page.charts())


async def test_names_are_shown_as_text_on_every_page(pages: Pages) -> None:
    [latest, *_] = (await answered(pages.client, "/v1/sessions?product=fog"))["sessions"]
    session = f"/sessions/{latest['visitor']}/{latest['started_at']}"
    showing = [
        "/sessions?product=fog", session, f"/probes/fog/{NUMERIC}", f"/probes/fog/{CATEGORIES}",
        f"/probes/fog/{FAILED}", "/builds?product=fog", "/hotlist?product=fog",
    ]  # fmt: skip
    for path in {*PATHS, *showing}:
        response = await pages.client.get(path, headers={"Accept": "text/html"})
        text = await response.text()
        assert "<script>alert" not in text, path
        assert "</title> " not in text, path
        if path in showing:
            assert NASTY in Shown(text).all("main")[0].text, path


@pytest.mark.parametrize("query", [NASTY, "'; DROP TABLE catalogue; --", "%_\\", "\U0001f9ea" * 50])
async def test_what_was_searched_for_is_shown_as_text(pages: Pages, query: str) -> None:
    for path in ("/probes", "/probes/found"):
        response = await pages.client.get(path, params={"q": query}, headers={"Accept": "text/html"})
        text = await response.text()
        assert response.status == 200
        assert "<script>alert" not in text
        assert query.strip() in "".join(one.text for one in Shown(text).elements)


async def test_all_that_a_first_view_loads_is_small_and_kept(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog")
    places = {
        element.attributes[name]
        for element in page.elements
        for name in ("src", "data-vega")
        if name in element.attributes
    }
    places |= {link.attributes["href"] for link in page.all("link")}
    assert len(places) == 4
    total = 0
    for place in ["/?product=fog", *filter(None, places)]:
        headers = {"Accept-Encoding": "gzip", "Accept": "text/html"}
        response = await pages.client.get(place, headers=headers)
        body = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        total += len(gzip.compress(body))
        if place in places:
            assert "immutable" in response.headers["Cache-Control"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.content_type in ("text/css", "text/javascript", "image/svg+xml")
    assert total < MOST_BYTES


@pytest.mark.parametrize("path", ["/assets/x/page.css", "/assets/x/vega.js", "/assets/x/..%2F..%2Frendering.py"])
async def test_there_is_no_other_file(pages: Pages, path: str) -> None:
    assert (await pages.client.get(path)).status == 404


async def test_charts_are_vega_lite_that_draws() -> None:
    assert {path.stem for path in SPECIFICATIONS.iterdir()} == set(DATASETS)
    for name, datasets in DATASETS.items():
        made = json.loads(json.dumps(chart(name, **datasets)).replace('"container"', "300"))
        drawn = await asyncio.to_thread(vl_convert.vegalite_to_svg, made)
        assert "mark-" in drawn, name


@pytest.mark.parametrize("route", [route for route in PAGE_ROUTES if route.method == "GET"], ids=named)
async def test_programs_hear_in_json_what_is_wrong(pages: Pages, route: Route) -> None:
    path = f"{filled(route.path)}?nonsense=1"
    got = await pages.client.get(path)
    if got.status != 200:
        assert (await got.json())["status"] == got.status in (404, 422)
        assert got.headers["Content-Security-Policy"].startswith("default-src 'none'")
    head = await pages.client.head(path)
    assert (head.status, await head.read()) == (got.status, b"")
