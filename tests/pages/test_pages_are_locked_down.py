"""Pages are well-formed, load nothing from elsewhere, run nothing that is written in them, and show names as text.

Each is loaded once, and all that it promises is looked for in that: what leads from it to the API is answered, too.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
import vl_convert
from multidict import CIMultiDictProxy

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
    taken,
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
TAKEN = ("/v1/hotlist/rules", "/v1/builds", "/v1/nights", "/v1/projections", "/v1/popularity")
START = "2026-11-20T00:00:00Z"
MARKS: dict[str, list[dict[str, object]]] = {
    "releases": [{"start": START, "release": "nightly 140"}],
    "versions": [{"start": START, "version": "140"}],
}
DATASETS: dict[str, dict[str, list[dict[str, object]]]] = {
    "over_time": {"rows": [{"start": START, "end": "2026-11-21", "series": "views", "value": 1, "running": True}]}
    | MARKS,
    "bands": {
        "bands": [{"start": START, "version": 1, "p5": 1, "p25": 2, "p50": 3, "p75": 4, "p95": 5}],
        "chosen": [{"start": START, "p50": 3}],
    }
    | MARKS,
    "histogram": {"buckets": [{"left": 1, "right": 2, "share": 1}]},
    "shares": {"shares": [{"start": START, "series": "always", "value": 1}], "running": []} | MARKS,
    "compared": {"rows": [{"side": "one", "from": 1, "to": 2, "share": 1}]},
    "compared_shares": {"rows": [{"side": "one", "category": "always", "share": 1, "told": "100%"}]},
    "coverage": {
        "rows": [{"budget": 10, "policy": "best possible", "share": 1, "order": 0}],
        "others": [{"budget": 10, "policy": "most viewed", "share": 0.5, "order": 0}],
        "labels": [{"policy": "best possible", "place": 1, "order": 0}],
        "chosen": [{"budget": 10}],
    },
}

PLACES = ("href", "src", "action", "data-vega", "data-load", "data-loads", "data-share", "data-curl", "data-to")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


class Loaded(NamedTuple):
    """A page as it was answered."""

    headers: CIMultiDictProxy[str]
    text: str
    page: Shown


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def loaded(pages: Pages) -> dict[str, Loaded]:
    """Load every page."""
    found = {}
    for path in PATHS:
        response = await pages.client.get(path, headers={"Accept": "text/html"})
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html"), text[:500]
        found[path] = Loaded(response.headers, text, Shown(text))
    return found


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_well_formed_and_needs_nothing_else(loaded: dict[str, Loaded], path: str) -> None:
    headers, _, page = loaded[path]
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "private" in headers["Cache-Control"]
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"], element
        for name in PLACES:
            value = element.attributes.get(name)
            if element.attributes.get("rel") == "external noreferrer":  # to where people go, not what the page loads
                continue
            assert value is None or (value.startswith(("/", "#")) and not value.startswith("//")), element
        if element.tag == "script" and element.attributes.get("type") != "application/json":
            assert element.attributes["src"]
            assert not element.text
    assert not page.all("style")
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith(PARTS)])
async def test_a_page_can_be_used_without_seeing_it(loaded: dict[str, Loaded], path: str) -> None:
    page = loaded[path].page
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


async def test_names_are_shown_as_text_on_every_page(pages: Pages, loaded: dict[str, Loaded]) -> None:
    [latest, *_] = (await answered(pages.client, "/v1/sessions?product=fog"))["sessions"]
    session = f"/sessions/{latest['visitor']}/{latest['started_at']}"
    showing = [
        "/sessions?product=fog", session, f"/probes/fog/{NUMERIC}", f"/probes/fog/{CATEGORIES}",
        f"/probes/fog/{FAILED}", "/builds?product=fog", "/hotlist?product=fog",
    ]  # fmt: skip
    texts = {path: one.text for path, one in loaded.items()}
    for path in set(showing) - texts.keys():
        response = await pages.client.get(path, headers={"Accept": "text/html"})
        texts[path] = await response.text()
    for path, text in texts.items():
        assert "<script>alert" not in text, path
        assert "</title> " not in text, path
    for path in showing:
        assert NASTY in Shown(texts[path]).all("main")[0].text, path


async def test_every_link_to_the_api_is_answered_in_its_form(pages: Pages, loaded: dict[str, Loaded]) -> None:
    """One of those that ask the same route with the same parameters, whatever their values."""
    places = {shape_of(place): place for one in loaded.values() for place in taken(one.page)}
    for place in places.values():
        response = await pages.client.get(place)
        assert response.status == 200, (place, await response.text())
        assert response.content_type == ("text/csv" if "format=csv" in place else "application/json")
    assert [one for one in TAKEN if not any(place.startswith(one) for place in places.values())] == []


def shape_of(place: str) -> tuple[str, frozenset[str]]:
    asked = urlsplit(place)
    return asked.path, frozenset(parse_qs(asked.query, keep_blank_values=True))


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
    assert len(places) == 6
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
