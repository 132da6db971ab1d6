"""Any days can be shown, and compared with the days before or with others; a link keeps both."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pages import NUMERIC, Pages, Shown, answered, filled_pages, shown
from usage_service.problems import Problem
from usage_service.web.pages.filters import A_WEEK, Filters, ViewParameters
from usage_service.web.pages.frame import ProductsQuestion
from usage_service.web.pages.presentation.comparison import Change, Compared
from usage_service.web.pages.presentation.words import day, number

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
DAYS = st.dates(date(2020, 1, 1), date(2026, 11, 28))


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


def begin_of(one: date) -> datetime:
    return datetime(one.year, one.month, one.day, tzinfo=UTC)


def filters(**asked: object) -> Filters:
    return Filters.of(msgspec.convert(asked, ViewParameters), "fog", NOW)


@given(DAYS, st.integers(1, 800), st.sampled_from(["before", "year"]))
async def test_days_are_compared_with_as_many(first: date, length: int, compare: str) -> None:
    last = min(first + timedelta(days=length - 1), NOW.date())
    chosen = filters(since=begin_of(first), until=begin_of(last + timedelta(days=1)), compare=compare)
    assert chosen.days == (first, last)
    assert chosen.shift is not None
    assert chosen.compared is not None
    assert chosen.compared.length == chosen.length
    assert chosen.compared.interval == chosen.interval
    assert chosen.compared.days.first + chosen.shift == first
    assert compare == "year" or chosen.compared.days.last < first
    assert chosen.interval != "week" or not chosen.shift % A_WEEK
    again = filters(**{name: begin_of(value) if isinstance(value, date) else value
                       for name, value in chosen.kept_days.items()})  # fmt: skip
    assert (again.days, again.compared and again.compared.days) == (chosen.days, chosen.compared.days)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 90))
async def test_a_day_that_is_not_over_is_compared_with_none(values: list[int], back: int) -> None:
    begin, step = begin_of(NOW.date()) - timedelta(days=len(values) - 1), timedelta(days=1)
    buckets = [{"start": (begin + place * step).isoformat(), "n": value} for place, value in enumerate(values)]
    shift = timedelta(days=back)
    others = [{"start": (begin - shift + place * step).isoformat(), "n": value} for place, value in enumerate(values)]
    change = Compared(shift, step, NOW).change(buckets, others, lambda bucket: float(bucket["n"]))
    assert change == (sum(values[:-1]), sum(values[:-1]))


async def test_a_change_is_said_in_words() -> None:
    assert Change(120, 100).words == "+20% on 100"
    assert Change(1_000, 4_000).words == "\N{MINUS SIGN}75% on 4,000"
    assert (Change(1, 0).words, Change(0, 0).words) == ("none before", "none before either")


def charted(page: Shown, title: int, name: str) -> list[float]:
    return [row["value"] for row in page.charts()[title]["datasets"][name]]


@pytest.mark.parametrize("place", ["/", f"/probes/fog/{NUMERIC}", "/sessions"])
async def test_a_page_shows_the_days_of_its_address(pages: Pages, place: str) -> None:
    first, last = (await _viewed(pages))[:2]
    asked = f"product=fog&since={last}&until={last + timedelta(days=1)}&compare_since={first}"
    page = await shown(pages.client, f"{place}?{asked}")
    [form] = page.all("form", **{"class": "filters"})
    assert f"{last} to {last}" in form.text
    assert f"compared with {first} to {first}" in form.text
    assert {one.attributes["name"]: one.attributes["value"] for one in page.all("input", type="date")} == {
        "since": str(last), "until": str(last + timedelta(days=1)), "compare_since": str(first),
    }  # fmt: skip
    links = [link.attributes["href"] or "" for link in page.all("a")]
    assert sum(f"since={last}&until={last + timedelta(days=1)}&compare_since={first}" in link for link in links) > 7


async def _viewed(pages: Pages) -> tuple[date, date]:
    [[first, last]] = await pages.database.fetch(
        "SELECT utc_day(min(occurred_at)), utc_day(max(occurred_at)) FROM event_log WHERE type = 'probe_viewed'"
    )
    assert first < last
    return first, last


async def test_the_overview_draws_and_counts_both(pages: Pages) -> None:
    first, last = await _viewed(pages)
    page = await shown(
        pages.client, f"/?product=fog&since={last}&until={last + timedelta(days=1)}&compare_since={first}"
    )
    facts = " ".join(fact.text for fact in page.all("div", **{"class": "fact"}))
    of_day = {}
    for one in (first, last):
        window = f"product=fog&interval=hour&since={one}&until={one + timedelta(days=1)}"
        [series] = (await answered(pages.client, f"/v1/timeseries?{window}"))["series"]
        of_day[one] = [bucket["views"] for bucket in series["buckets"]]
    assert charted(page, 0, "before") == of_day[first]
    assert Change(sum(of_day[last]), sum(of_day[first])).words in facts
    [most] = page.all("section", **{"aria-labelledby": "h-most"})
    window = f"product=fog&since={first}&until={first + timedelta(days=1)}&limit=10"
    for probe in (await answered(pages.client, f"/v1/popularity?{window}"))["probes"]:
        assert number(probe["views"]) in most.text


async def test_days_before_the_log_are_said_to_be_missing(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog&compare=year")
    assert "The log begins on" in page.all("p", role="note")[0].text
    plain = await shown(pages.client, "/?product=fog")
    assert not plain.all("p", role="note")
    assert all("before" not in chart["datasets"] or not chart["datasets"]["before"] for chart in plain.charts())


@pytest.mark.parametrize(
    "asked",
    ["since=2026-11-10&until=2026-11-10", "since=2999-01-01", "since=1900-01-01", "compare=other", "since=20261101"],
)
async def test_days_that_make_no_sense_are_refused(pages: Pages, asked: str) -> None:
    response = await pages.client.get(f"/?product=fog&{asked}", headers={"Accept": "text/html"})
    assert response.status == 422
    assert asked.partition("=")[0] in await response.text()


async def test_a_page_without_its_products_says_why(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Problem(503, "Not up to date", "the projection catalogue is behind", headers={"Retry-After": "2"})

    monkeypatch.setattr(ProductsQuestion, "other_revision", refuse)
    response = await pages.client.get("/builds", headers={"Accept": "text/html"})
    assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert "the projection catalogue is behind" in await response.text()


async def test_a_day_is_that_day_wherever_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert day("2026-11-20") == day(date(2026, 11, 20)) == "2026-11-20"
        assert day("2026-11-20T23:30:00-05:00") == "2026-11-21"
    finally:
        monkeypatch.undo()
        time.tzset()
