"""Every list that the API answers is CSV for whoever asks for it: the same rows, and no formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bad_input import refused
from tests.support.pages import MISSING, NASTY, NIGHT, NUMERIC, Pages, answered, filled_pages
from usage_service.shared.formulas import FORMULAS
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.operations import operation_of
from usage_service.web.tables import Table, cell, table_of

SINCE = (datetime.now(UTC) - timedelta(days=9)).date()
WINDOW = f"product=fog&since={SINCE}"
# What each route with a table is asked, and where its list is.
LISTS = {
    "/v1/popularity": ("product=fog&order=least", "probes"),
    "/v1/unused": ("product=fog&window=1d", "probes"),
    "/v1/hidden": ("", "patterns"),
    "/v1/hotlist": ("product=fog", "probes"),
    "/v1/hotlist/rules": ("", "rules"),
    "/v1/hotlist/experiment": ("product=fog", "policies"),
    "/v1/sessions": (WINDOW, "sessions"),
    "/v1/journeys": (WINDOW, "transitions"),
    "/v1/probes/{product}/{probe}/together": (f"since={SINCE}", "probes"),
    "/v1/probes/{product}/{probe}/changes": ("channel=nightly", "changes"),
    "/v1/releases/probes": (f"product=fog&at={SINCE + timedelta(days=6)}", "probes"),
    "/v1/releases/distributions": ("product=fog&channel=nightly&version=141", "probes"),
    "/v1/funnel": (WINDOW, "steps"),
    "/v1/returning": ("product=fog", "weeks"),
    "/v1/sessions/typical": (WINDOW, "timeline"),
    "/v1/releases/impact": ("product=fog", "releases"),
    "/v1/projections": ("", "projections"),
    "/v1/products": ("", "products"),
    "/v1/builds": ("product=fog", "builds"),
    "/v1/nights": ("product=fog", "nights"),
    "/v1/nights/{night_id}/probes": ("", "probes"),
    "/v1/probes/{product}/{probe}/misses": (f"since={SINCE}", "channels"),
    "/v1/probes": ("product=fog&q=ms", "probes"),
    "/v1/probes/{product}/{probe}": ("channel=nightly", "rows"),
}
# Their lists are not at one name: each has a test of its own below.
OTHERS = {
    "/v1/probes/{product}/{probe}/comparison", "/v1/hotlist/backtest", "/v1/hotlist/{run}", "/v1/timeseries",
    "/v1/sessions/summary", "/v1/sessions/{visitor}/{started_at}",
}  # fmt: skip
# What moves on between two requests, and the reasons of a hot list, which are texts here.
MOVING = {"behind", "behind_seconds", "updated_at", "position", "seconds_left", "reasons"}
UNTAGGED = ("/v1/hidden", "/v1/hotlist/rules", "/v1/hotlist/experiment", "/v1/projections", "/v1/builds")
on_the_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


def place_of(path: str, query: str) -> str:
    named = path.format(night_id=NIGHT, product="fog", probe=NUMERIC)
    return f"{named}?{query}" if query else named


async def rows_of(pages: Pages, place: str, **headers: str) -> list[dict[str, str]]:
    response = await pages.client.get(place, headers=headers)
    text = await response.text()
    assert (response.status, response.content_type) == (200, "text/csv"), text[:500]
    assert "Accept" in response.headers["Vary"].split(", ")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _still(row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if key not in MOVING}


@on_the_loop
@pytest.mark.parametrize("path", LISTS)
async def test_csv_has_the_rows_of_the_list(pages: Pages, path: str) -> None:
    query, name = LISTS[path]
    items = (await answered(pages.client, place_of(path, query)))[name]
    rows = await rows_of(pages, place_of(path, query), Accept="text/csv, application/json;q=0.9")
    again = await rows_of(pages, place_of(path, f"{query}&format=csv" if query else "format=csv"))
    assert [_still(row) for row in rows] == [_still(row) for row in again]
    assert len(rows) == len(items)
    for row, item in zip(rows, items, strict=True):
        assert None not in row
        shared = row.keys() & item.keys() - MOVING
        assert len(shared) >= 2 or not row
        assert {key: row[key] for key in shared} == {key: _text(item[key]) for key in shared}


def _text(value: object) -> str:
    found = cell(value)
    return "" if found is None else str(found)


def test_no_route_with_a_table_is_left_out() -> None:
    tabular = {route.path for route in ROUTES if (found := operation_of(route.handler)) and found.table}
    assert tabular == LISTS.keys() | OTHERS


@on_the_loop
async def test_lists_in_lists_are_rows_with_what_is_beside_them(pages: Pages) -> None:
    place = f"/v1/timeseries?{WINDOW}&probe={NUMERIC}&probe={MISSING}"
    series = (await answered(pages.client, place))["series"]
    rows = await rows_of(pages, f"{place}&format=csv")
    told = [(one["probe"], each["start"], str(each["views"])) for one in series for each in one["buckets"]]
    assert [(row["probe"], row["start"], row["views"]) for row in rows] == told
    place = f"/v1/sessions/summary?{WINDOW}"
    buckets = (await answered(pages.client, place))["summary"]["roles_over_time"]
    rows = await rows_of(pages, f"{place}&format=csv")
    assert [(row["start"], row["shares_whole"]) for row in rows] == [
        (one["start"], str(one["shares"]["whole"])) for one in buckets
    ]
    [session, *_] = (await answered(pages.client, f"/v1/sessions?{WINDOW}"))["sessions"]
    place = f"/v1/sessions/{session['visitor']}/{quote(session['started_at'])}"
    timeline = (await answered(pages.client, place))["timeline"]
    rows = await rows_of(pages, f"{place}?format=csv")
    assert [msgspec.json.decode(row["data"]) for row in rows] == [one["data"] for one in timeline]


@on_the_loop
async def test_a_comparison_is_a_row_for_each_difference(pages: Pages) -> None:
    place = f"/v1/probes/fog/{NUMERIC}/comparison?channel=nightly&with_version=140"
    told = await answered(pages.client, place)
    rows = await rows_of(pages, f"{place}&format=csv")
    differences = [*told["percentiles"], *told["categories"]]
    assert [row["difference_value"] for row in rows] == [_text(one["difference"]["value"]) for one in differences] != []


@on_the_loop
async def test_a_hot_list_and_its_backtest_are_rows(pages: Pages) -> None:
    hot = (await answered(pages.client, "/v1/hotlist?product=fog"))["probes"]
    rows = await rows_of(pages, "/v1/hotlist?product=fog&format=csv")
    assert [row["reasons"] for row in rows] == ["; ".join(one["text"] for one in item["reasons"]) for item in hot]
    await pages.client.post("/v1/hotlist", json={"run": "a-night", "product": "fog"})
    kept = await rows_of(pages, "/v1/hotlist/a-night?format=csv")
    assert [row["probe"] for row in kept] == [item["probe"] for item in hot]
    backtest = await answered(pages.client, "/v1/hotlist/backtest?product=fog&nights=2&budgets=5,10")
    rows = await rows_of(pages, "/v1/hotlist/backtest?product=fog&nights=2&budgets=5,10&format=csv")
    told = [
        (one["policy"], str(budget), str(caught))
        for one in backtest["policies"]
        for budget, caught in zip((5, 10), one["caught"], strict=True)
    ]
    assert [tuple(row.values()) for row in rows] == told


@on_the_loop
@pytest.mark.parametrize("path", [path for path in LISTS if path not in UNTAGGED and "night" not in path])
async def test_each_form_has_a_tag_of_its_own(pages: Pages, path: str) -> None:
    place = place_of(path, LISTS[path][0])
    json, asked = await pages.client.get(place), {"Accept": "text/csv"}
    table = await pages.client.get(place, headers=asked)
    tags = [response.headers["ETag"] for response in (json, table)]
    assert tags[0] != tags[1]
    for headers, tag, status in (
        (asked, tags[1], 304), (asked, tags[0], 200), ({}, tags[1], 200), ({}, tags[0], 304), (asked, "*", 304),
    ):  # fmt: skip
        again = await pages.client.get(place, headers=headers | {"If-None-Match": tag})
        assert again.status == status
        assert again.headers["ETag"] == tags[bool(headers)]


@on_the_loop
async def test_pages_of_a_list_stay_csv(pages: Pages) -> None:
    place, found = "/v1/popularity?product=fog&order=least&limit=2&format=csv", []
    while place:
        response = await pages.client.get(place)
        found += [row["probe"] for row in csv.DictReader((await response.text()).splitlines())]
        link = response.headers.get("Link", "")
        place = link[1 : link.index(">")] if link else ""
    whole = await answered(pages.client, "/v1/popularity?product=fog&order=least")
    assert found == [one["probe"] for one in whole["probes"]]


@on_the_loop
async def test_a_wrong_form_is_named_and_json_is_what_others_get(pages: Pages) -> None:
    for wrong in ("format=xml", "format=", "format=csv&format=csv"):
        problem = await refused(await pages.client.get(f"/v1/popularity?{wrong}"), 422)
        assert problem["errors"][0]["parameter"] == "format"
    assert (await pages.client.get("/v1/popularity?window=soon&format=csv")).content_type == "application/problem+json"
    for accept in ("*/*", "text/html, */*;q=0.8", "application/json, text/csv;q=0.5", "text/csv;q=0", "text/csv;q=x"):
        answer = await pages.client.get("/v1/popularity", headers={"Accept": accept})
        assert answer.content_type == "application/json"
    lines = await pages.client.get("/v1/hotlist?product=fog&format=lines", headers={"Accept": "text/csv"})
    assert lines.content_type == "text/plain"
    head = await pages.client.head("/v1/popularity?format=csv")
    assert (head.status, head.content_type) == (200, "text/csv")


@on_the_loop
async def test_a_name_that_would_be_a_formula_is_a_text(pages: Pages) -> None:
    reason = '=HYPERLINK("http://evil.example","x")'
    await pages.client.put(f"/v1/hotlist/rules/fog/{MISSING}", json={"rule": "excluded", "reason": reason})
    [row] = [one for one in await rows_of(pages, "/v1/hotlist/rules?format=csv") if one["probe"] == MISSING]
    assert row["reason"] == f"'{reason}"
    assert NASTY in [one["reason"] for one in await rows_of(pages, "/v1/hotlist/rules?format=csv")]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
)


class Item(msgspec.Struct):
    """An item of a list."""

    value: object
    number: int


class Listed(msgspec.Struct):
    """A list."""

    items: list[Item]


@given(st.lists(st.tuples(JSON_VALUES, st.integers()), max_size=4))
def test_any_value_is_one_cell_that_no_spreadsheet_computes(values: list[tuple[object, int]]) -> None:
    table: Table = table_of(Listed, "items")
    text = table.csv(msgspec.json.encode(Listed([Item(*one) for one in values]))).decode()
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    assert names == ["value", "number"]
    assert [row[1] for row in rows] == [str(number) for _, number in values]
    for (value, _), (shown, _) in zip(values, rows, strict=True):
        if isinstance(value, str):
            assert not shown.startswith(FORMULAS)
            assert value in (shown, shown.removeprefix("'"))
        elif isinstance(value, dict):
            assert msgspec.json.decode(shown) == value
