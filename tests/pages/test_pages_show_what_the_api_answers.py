"""Every page shows what the API answers to the same question."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
import pytest_asyncio

from tests.support.building import served, service
from tests.support.pages import (
    BUILDS,
    CATEGORIES,
    EMPTY,
    FAILED,
    HISTOGRAM,
    MISSING,
    NASTY,
    NIGHT,
    NUMERIC,
    PERCENTILES,
    RUNNING,
    Element,
    Pages,
    Shown,
    answered,
    filled_pages,
    shown,
)
from tests.support.servers import JsonObject, post, registered
from tests.support.traffic import fold_all
from usage_service.hotlist.experiment import fill_nights
from usage_service.tokens import TokenScope, create_token
from usage_service.web.api.routes import ROUTES
from usage_service.web.pages.presentation.charts import sparkline
from usage_service.web.pages.presentation.distribution import histogram_of
from usage_service.web.pages.presentation.overview import LONGEST_LABEL, release_marks
from usage_service.web.pages.presentation.sessions import not_recorded
from usage_service.web.pages.presentation.units import SHARE, measured
from usage_service.web.pages.presentation.words import has_expired, moment, money, number, plain
from usage_service.web.pages.routes import PAGE_ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What pages offer takes these scopes.
OFFERING = {
    "/hotlist?product=fog": {"admin"},
    "/builds?product=fog": {"admin", "build"},
    "/nights?product=fog": {"build"},
    f"/nights/{NIGHT}": {"build"},
    f"/probes/fog/{MISSING}": {"build"},
    f"/probes/fog/{RUNNING}": {"build"},
    f"/probes/fog/{FAILED}": {"build"},
}
EXPIRIES = ("never", "expired", "2026-11-19", "2026-11-20", "2026-11-21", "140", "soon")


def first_day(days: int = 28) -> datetime:
    """Return the beginning of the first of so many days, the last of which is today."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="pages")
async def some_pages(module_database_url: str) -> AsyncIterator[Pages]:
    async with filled_pages(module_database_url) as pages:
        yield pages


async def test_the_overview_draws_the_time_series(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog")
    views, visitors, sessions = (chart["datasets"]["rows"] for chart in page.charts())
    answer = await answered(pages.client, f"/v1/timeseries?product=fog&since={first_day():%Y-%m-%dT%H:%M:%SZ}")
    buckets = answer["series"][0]["buckets"]
    assert [(row["start"], row["value"]) for row in visitors] == [(one["start"], one["visitors"]) for one in buckets]
    for kind, words in (("found", "data found"), ("missing", "not built")):
        drawn = [(row["start"], row["value"]) for row in views if row["series"] == words]
        assert drawn == [(one["start"], one[kind]) for one in buckets]
    summary = await answered(pages.client, f"/v1/sessions/summary?product=fog&since={first_day():%Y-%m-%dT%H:%M:%SZ}")
    assert sum(row["value"] for row in sessions) == summary["summary"]["sessions"] > 0


async def viewed_days(pages: Pages) -> tuple[date, date]:
    """Return the first and the last day with a view."""
    [[first, last]] = await pages.database.fetch(
        "SELECT utc_day(min(occurred_at)), utc_day(max(occurred_at)) FROM event_log WHERE type = 'probe_viewed'"
    )
    return first, last


@pytest.mark.parametrize("order", ["most", "trending", "least"])
async def test_the_overview_ranks_probes(pages: Pages, order: str) -> None:
    _, last = await viewed_days(pages)
    asked = f"product=fog&window=1d&until={last + timedelta(days=1)}"
    page = await shown(pages.client, f"/?{asked}")
    answer = await answered(pages.client, f"/v1/popularity?{asked}&limit=10&order={order}")
    [section] = page.all("section", **{"aria-labelledby": f"h-{order}"})
    places = [section.text.index(probe["probe"]) for probe in answer["probes"]]
    assert places == sorted(places)
    assert len(answer["probes"]) >= 2


@pytest.mark.parametrize(("window", "days"), [("7d", 7), ("28d", 28), ("365d", None)])
async def test_the_overview_has_a_line_for_each_probe(pages: Pages, window: str, days: int | None) -> None:
    """Sparklines are by day, and by week when the window is long."""
    page = await shown(pages.client, f"/?product=fog&window={window}")
    [most] = page.all("section", **{"aria-labelledby": "h-most"})
    lines = [line.attributes["points"] for line in page.all("polyline")]
    since = first_day(days or 365)
    since -= timedelta(days=0 if days else since.weekday())
    asked = f"product=fog&interval={'day' if days else 'week'}&since={since:%Y-%m-%dT%H:%M:%SZ}"
    ranked = (await answered(pages.client, f"/v1/popularity?product=fog&window={window}&limit=10"))["probes"]
    assert ranked
    for probe in ranked:
        answer = await answered(pages.client, f"/v1/timeseries?{asked}&probe={probe['probe']}")
        assert probe["probe"] in most.text
        assert sparkline([bucket["views"] for bucket in answer["series"][0]["buckets"]]) in lines


async def test_a_probe_draws_its_rows(pages: Pages) -> None:
    page = await shown(pages.client, f"/probes/fog/{NUMERIC}?version=140&label=a")
    bands, histogram, *_ = page.charts()
    drawn = bands["datasets"]["bands"]
    days = sorted(f"{one[:4]}-{one[4:6]}-{one[6:8]}" for one in BUILDS)
    assert [(row["start"][:10], row["version"]) for row in drawn] == [(day, 140) for day in days]
    of_all = (await shown(pages.client, f"/probes/fog/{NUMERIC}?label=a")).charts()[0]["datasets"]
    assert sorted(row["version"] for row in of_all["bands"]) == [140] * len(BUILDS) + [141] * len(BUILDS)
    assert {row["version"] for row in of_all["versions"]} == {"140", "141"}
    assert all(row[f"p{percent}"] == PERCENTILES[percent] for row in drawn for percent in ("5", "25", "50", "75", "95"))
    buckets = histogram["datasets"]["buckets"]
    assert {f"{row['from']:g}": row["share"] for row in buckets} == {key: v for key, v in HISTOGRAM.items() if v}
    assert [row["to"] for row in buckets] == [10, 100, 1_000, 10_000]
    scale = histogram["encoding"]["x"]["scale"]
    assert (scale["type"], scale["domain"]) == ("log", [1, 10_000])
    assert [title for _, title, _ in histogram["usermeta"]["tips"]][-1] == "1 µs to 10 µs"


async def test_a_probe_of_categories_draws_shares(pages: Pages) -> None:
    page = await shown(pages.client, f"/probes/fog/{CATEGORIES}")
    shares = page.charts()[0]["datasets"]["shares"]
    assert len(shares) == 2 * len(BUILDS)
    assert {(row["series"], row["value"]) for row in shares} == {("always", 0.25), (NASTY, 0.75)}


async def test_a_probe_says_what_it_is(pages: Pages) -> None:
    said: JsonObject = {"description": NASTY, "owners": ["team@example.org"], "link": "https://example.org/?a=1&b=2"}
    said |= {
        "expires": "2021-01-01",
        "disabled": True,
        "time_unit": "millisecond",
        "labels": [f"label {number}" for number in range(25)],
    }
    registration = registered(NUMERIC)
    await post(pages.client, registration | {"data": registration["data"] | said})
    await fold_all(pages.database)
    known = (await answered(pages.client, f"/v1/probes/fog/{NUMERIC}?channel=nightly"))["registered"]
    assert {name: known[name] for name in said if name != "time_unit"} | {"time_unit": "millisecond"} == said
    assert known["unit"] == "nanosecond"
    page = await shown(pages.client, f"/probes/fog/{NUMERIC}")
    description, labels, owners = (paragraph.text for paragraph in page.all("p", **{"class": "described"}))
    assert description == NASTY
    assert labels == f"Labels: {', '.join(said['labels'][:20])} and 5 more."
    assert owners == "Owners: team@example.org"
    facts = " ".join(fact.text for fact in page.all("div", **{"class": "fact"}))
    assert "disabled" in facts
    assert "2021-01-01over" in facts
    [link] = [one for one in page.all("a", rel="external noreferrer") if one.text == "Where it is defined"]
    assert link.attributes["href"] == said["link"]


async def test_expiry_is_told_from_the_day() -> None:
    over = [expires for expires in EXPIRIES if has_expired(expires, date(2026, 11, 20))]
    assert over == ["expired", "2026-11-19", "2026-11-20"]


async def test_every_state_of_a_build_is_said_in_words(pages: Pages) -> None:
    said = {
        MISSING: ("has not been built", "POST"),
        RUNNING: ("Being built", "DELETE"),
        FAILED: ("could not be built", "POST"),
        EMPTY: ("too few clients", None),
    }
    for probe, (words, method) in said.items():
        page = await shown(pages.client, f"/probes/fog/{probe}")
        [section] = page.all("section", **{"aria-labelledby": "h-shows"})
        assert words in section.text
        sends = [button.attributes["data-send"] for button in page.all("button") if "data-send" in button.attributes]
        assert sends == ([method] if method else [])


async def test_builds_are_those_of_the_queue(pages: Pages) -> None:
    page = await shown(pages.client, "/builds?product=fog")
    text = page.all("main")[0].text
    for build in (await answered(pages.client, "/v1/builds?product=fog"))["builds"]:
        assert build["probe"] in text
        assert moment(build["requested_at"]) in text
        assert measured(build["bytes"], "byte") in text
        assert f"{build['attempt']}/{build['max_attempts']}" in text


async def test_a_night_shows_its_progress_its_money_and_each_probe(pages: Pages) -> None:
    night = await answered(pages.client, f"/v1/nights/{NIGHT}")
    totals = night["totals"]
    for path in ("/nights?product=fog", f"/nights/{NIGHT}"):
        page = await shown(pages.client, path)
        text = page.all("main")[0].text
        assert "1 of 3 probes are done" in text
        assert f"{measured(totals['bytes'], 'byte')}of {measured(totals['expected_bytes'], 'byte')} expected" in text
        assert "1of 2 are over" in text
        assert money(totals["expected_bytes"] / 2**40 * 6.25) in text
        assert [bar.attributes["value"] for bar in page.all("progress")] == ["1"]
        assert any("data-pending" in element.attributes for element in page.elements)
        assert [button.attributes["data-to"] for button in page.all("button", **{"data-send": "DELETE"})] == [
            f"/v1/nights/{NIGHT}"
        ]
    for probe in (await answered(pages.client, f"/v1/nights/{NIGHT}/probes"))["probes"]:
        assert probe["probe"] in text
        assert (probe["reason"] or "") in text
    past = (await shown(pages.client, "/nights?product=fog&channel=release")).all("main")[0].text
    assert "cancelled" in past
    assert "are done" not in past


async def test_the_hot_list_gives_scores_and_reasons(pages: Pages) -> None:
    page = await shown(pages.client, "/hotlist?product=fog&budget=10")
    answer = await answered(pages.client, "/v1/hotlist?product=fog&budget=10")
    text = page.all("main")[0].text
    assert answer["probes"]
    for probe in answer["probes"]:
        assert probe["probe"] in text
        assert number(probe["score"]) in text
        assert all(reason["text"] in text for reason in probe["reasons"])
    assert answer["choices"]
    assert all(choice["rule"] in text and choice["text"] in text for choice in answer["choices"])


async def test_a_pinned_probe_offers_to_unpin_it(pages: Pages) -> None:
    page = await shown(pages.client, "/hotlist?product=fog&budget=10")
    offers = {button.attributes.get("aria-label"): button.attributes.get("data-send") for button in page.all("button")}
    assert offers[f"Unpin {NUMERIC}"] == "DELETE"
    assert f"Pin {NUMERIC}" not in offers
    assert offers[f"Pin {MISSING}"] == "PUT"
    assert f"Unpin {MISSING}" not in offers


@pytest.mark.parametrize("scopes", [["read"], ["build", "read"], ["admin", "read"]], ids=str)
async def test_a_page_offers_what_the_token_opens_and_names_what_else_takes(
    pages: Pages, worker_database_url: str, scopes: list[TokenScope]
) -> None:
    token = await create_token(pages.database, f"only-{scopes[0]}", scopes, timedelta(days=1))
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
    async with served(worker_database_url, token="the operator's own token") as client:
        for path, needed in OFFERING.items():
            page = Shown(await (await client.get(path, headers=headers)).text())
            text = page.all("main")[0].text
            offered = {scope_of(button) for button in page.all("button") if "data-send" in button.attributes}
            assert offered == needed & set(scopes), path
            assert {scope for scope in needed if f"needs a token of scope {scope}" in text} == needed - offered, path


def scope_of(button: Element) -> str:
    """Return the scope of the route to which a button sends."""
    method, place = button.attributes["data-send"], button.attributes["data-to"]
    [scope] = {
        route.scope
        for route in (*ROUTES, *PAGE_ROUTES)
        if route.method == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), place or "")
    }
    return scope


@pytest.mark.usefixtures("pages")
async def test_who_reads_without_a_token_is_offered_nothing_else(worker_database_url: str) -> None:
    async with served(worker_database_url, token="the operator's own token", open_reads=True) as client:
        page = await shown(client, f"/probes/fog/{MISSING}")
    assert "needs a token of scope build" in page.all("main")[0].text
    assert not page.all("button", **{"data-send": "POST"})


async def test_old_views_are_found_from_days_without_any(pages: Pages) -> None:
    """The fixture's views are days ago; today has none."""
    first, last = await viewed_days(pages)
    one, follows = "?product=fog", f"&window=1d&until={last + timedelta(days=1)}"
    for path in ("/", f"/probes/fog/{NUMERIC}", "/sessions"):
        page = await shown(pages.client, f"{path}{one}&window=1d")
        [note] = page.all("p", role="note", **{"class": "problem"})
        assert f"from {first} to {last}" in note.text
        [link] = [a.attributes["href"] or "" for a in page.all("a") if a.text == "Show the days up to then"]
        assert link == f"{path}{one}{follows}"
        there = await shown(pages.client, link)
        assert not there.all("p", role="note", **{"class": "problem"})
        assert f"up to {last}" in there.all("form", **{"class": "filters"})[0].text
        assert follows in (there.all("a", **{"class": "name"})[0].attributes["href"] or "")
    overview = await shown(pages.client, f"/?product=fog{follows}")
    drawn = overview.charts()[1]["datasets"]["rows"]
    assert {row["start"][:10] for row in drawn} == {str(last)}
    assert sum(row["value"] for row in drawn) > 0


async def test_growth_is_not_told_without_a_period_before(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog&window=28d")
    [section] = page.all("section", **{"aria-labelledby": "h-trending"})
    first, last = await viewed_days(pages)
    assert f"no earlier period to compare with: the log begins on {first}" in section.text
    assert NUMERIC not in section.text
    later = await shown(pages.client, f"/?product=fog&window=1d&until={last + timedelta(days=1)}")
    [section] = later.all("section", **{"aria-labelledby": "h-trending"})
    assert NUMERIC in section.text
    assert "begins" not in section.text


async def test_what_a_number_counts_is_said(pages: Pages) -> None:
    probe = await shown(pages.client, f"/probes/fog/{NUMERIC}")
    assert "900 clients, summed over builds" in probe.all("main")[0].text
    heads = [head.text for head in probe.all("th") if head.text.startswith("Clients")]
    assert heads == ["Clients, summed over builds"] * 3
    one = await shown(pages.client, f"/probes/fog/{NUMERIC}?build={BUILDS[0]}")
    assert "900 clients, 9,000 samples" in one.all("main")[0].text
    sessions = await shown(pages.client, "/sessions?product=fog")
    assert "Sessions with fog" in sessions.all("h1")[0].text


async def test_roles_without_what_they_are_made_of_are_not_recorded() -> None:
    shares = {"starting_point": 0.0, "endpoint": 0.0, "in_between": 0.0, "whole": 1.0}
    assert len(not_recorded({"roles": shares})) == 2
    [links] = not_recorded({"roles": shares | {"endpoint": 0.5, "whole": 0.5}})
    assert "link_followed" in links
    [referrers] = not_recorded({"roles": shares | {"starting_point": 0.5, "whole": 0.5}})
    assert "referrer" in referrers
    assert not_recorded({"roles": shares | {"in_between": 1.0, "whole": 0.0}}) == []


async def test_releases_are_told_by_rates_a_day_and_where_the_log_begins(pages: Pages) -> None:
    page = await shown(pages.client, "/?product=fog")
    [section] = page.all("section", **{"aria-labelledby": "h-releases"})
    answer = await answered(pages.client, "/v1/releases/impact?product=fog")
    first, _ = await viewed_days(pages)
    for release in answer["releases"]:
        assert f"{release['channel']} {release['version']}" in section.text
        assert release["first_day"] == (str(first) if release["channel"] == "nightly" else None)
        if release["days_after"] and release["channel"] == "nightly":
            assert number(release["views_after"] / release["days_after"]) in section.text
            assert f"of {release['days_after']} days" in section.text
    assert f"log begins {first}" in section.text
    assert "no views yet" in section.text
    marks = page.charts()[0]["datasets"]["releases"]
    assert [mark["releases"] for mark in marks] == ["beta 142, nightly 143, release 141"]


async def test_releases_that_are_too_near_share_a_mark() -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    releases = [
        {
            "channel": channel,
            "version": 140 - day,
            "published_at": (begin + timedelta(days=day, hours=hours)).isoformat(),
        }
        for day in (20, 7, 6, 0)
        for hours, channel in enumerate(("nightly", "beta", "a channel with quite a long name"))
    ]
    marks = release_marks({"releases": releases}, 28)
    assert [(mark["start"], mark["release"]) for mark in marks] == [
        ((begin + timedelta(days=day)).isoformat(), f"nightly {140 - day} and 2 more") for day in (0, 6, 7, 20)
    ]
    assert len(release_marks({"releases": releases}, 365)) == 2
    assert len(release_marks({"releases": releases}, 1)) == len(releases)
    assert all(len(str(mark["release"])) <= LONGEST_LABEL for mark in release_marks({"releases": releases}, 1))
    assert release_marks(None, 7) == []


async def test_the_backtest_is_drawn_with_the_budget(pages: Pages) -> None:
    page = await shown(pages.client, "/hotlist/backtest?product=fog&budget=30")
    budgets = "5,10,25,50,100,200,500,1000,2000"
    answer = await answered(pages.client, f"/v1/hotlist/backtest?product=fog&budgets={budgets}")
    [chart] = page.charts()
    assert chart["datasets"]["chosen"] == [{"budget": 30}]
    drawn = [row["share"] for row in chart["datasets"]["rows"] if row["policy"] == "hot list"]
    caught = next(policy["caught"] for policy in answer["policies"] if policy["policy"] == "hot_list")
    assert caught == drawn + drawn[-1:] * (len(caught) - len(drawn))
    assert 1 <= len(drawn) < len(caught)
    own = {row["policy"] for row in chart["datasets"]["rows"]}
    others = {row["policy"] for row in chart["datasets"]["others"]}
    assert len(own) == 5
    assert len(own | others) == len(answer["policies"]) + 2


async def test_the_experiment_is_shown_for_the_budget_that_is_kept(pages: Pages) -> None:
    await pages.database.execute("UPDATE policy_fillings SET claimed_until = now()")  # the server may have begun, too
    await fill_nights(service(pages.client).pool, "fog", datetime.now(UTC).date())
    page = await shown(pages.client, "/hotlist/experiment?product=fog&budget=60&window=7d")
    answer = await answered(pages.client, f"/v1/hotlist/experiment?product=fog&budget=50&since={first_day(7):%Y-%m-%d}")
    assert answer["nights"] >= 1
    [body] = page.all("tbody")
    for policy in answer["policies"]:
        assert plain(policy["policy"]) in body.text
        assert measured(policy["caught"], SHARE) in body.text
    taken = {link.attributes["href"] or "" for link in page.all("a")}
    [place] = [one for one in taken if one.startswith("/v1/hotlist/experiment") and "format=csv" not in one]
    assert await answered(pages.client, place) == answer
    none = await shown(pages.client, "/hotlist/experiment?product=fenix")
    assert "No night since then is filled yet" in none.all("p")[0].text


async def test_unused_probes_are_told_with_what_they_cost(pages: Pages) -> None:
    page = await shown(pages.client, "/unused?product=fog&channel=beta&window=7d")
    answer = await answered(pages.client, "/v1/unused?product=fog&channel=beta&window=7d")
    text = page.all("main")[0].text
    assert answer["probes"]
    assert answer["blind_spot"] in text
    for probe in answer["probes"]:
        assert probe["probe"] in text
        assert measured(probe["bytes"], "byte") in text
    [link] = [one.attributes["href"] for one in page.all("a") if one.text == "CSV" and "unused" in str(one.attributes)]
    listed = await (await pages.client.get(link or "")).text()
    assert [line.split(",")[1] for line in listed.splitlines()[1:]] == [probe["probe"] for probe in answer["probes"]]


async def test_sessions_are_as_summarised(pages: Pages) -> None:
    text = (await shown(pages.client, "/sessions?product=fog")).all("main")[0].text
    summary = (
        await answered(pages.client, f"/v1/sessions/summary?product=fog&since={first_day():%Y-%m-%dT%H:%M:%SZ}")
    )["summary"]
    for quantile in ("p25", "median", "p99"):
        assert measured(summary["quantiles"]["seconds"][quantile], "second") in text
    part = await shown(pages.client, "/sessions/journeys?product=fog")
    journeys = await answered(pages.client, f"/v1/journeys?product=fog&steps=2&since={first_day():%Y-%m-%dT%H:%M:%SZ}")
    counts = [cell.text for cell in part.all("td") if cell.text]
    assert sorted(counts) == sorted(number(step["count"]) for step in journeys["transitions"])


async def test_a_session_is_told_event_by_event(pages: Pages) -> None:
    [latest, *_] = (await answered(pages.client, "/v1/sessions?product=fog"))["sessions"]
    page = await shown(pages.client, f"/sessions/{latest['visitor']}/{latest['started_at']}")
    [timeline] = page.all("ol")
    assert len(page.all("time")) == latest["events"]
    assert NUMERIC in timeline.text


async def test_the_search_finds_by_parts_of_names_and_by_likeness(pages: Pages) -> None:
    for text in ("ms", "GC", "gc_sm"):
        page = await shown(pages.client, f"/probes/found?product=fog&q={text}")
        assert NUMERIC in "".join(link.text for link in page.all("a", role="option"))
    nothing = await shown(pages.client, "/probes/found?product=fog&q=zzzz")
    assert not nothing.all("a")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/probes/fog/never_heard_of",
        "/probes/nothing/gc_ms",
        "/sessions/x/y",
        "/?window=3d",
        "/builds?state=odd",
        "/?product=nothing",
        "/unused?product=nothing",
        "/sessions?product=nothing",
    ],
)
async def test_what_is_not_there_is_said_on_a_page(pages: Pages, path: str) -> None:
    response = await pages.client.get(path)
    problem = await response.json()
    page = await shown(pages.client, path, response.status)
    assert response.status in (404, 422)
    assert problem["detail"] in page.all("main")[0].text


async def test_an_unknown_product_offers_those_that_are_known(pages: Pages) -> None:
    page = await shown(pages.client, "/hotlist?product=nothing", 404)
    links = [link.attributes["href"] for link in page.all("a")]
    assert {"/?product=fog", "/?product=fenix"} <= set(links)
    assert not any("nothing" in (link or "") for link in links)


async def test_another_product_leads_to_the_probe_there(pages: Pages) -> None:
    kept = "channel=beta&window=7d"
    for chosen, place in {
        f"{NUMERIC}?product=fenix&{kept}&version=140": f"/probes/fenix/{NUMERIC}?{kept}",
        f"{MISSING}?product=fenix&{kept}": f"/probes?product=fenix&{kept}&q={MISSING}",
        "never_heard_of?product=fenix": "/probes?product=fenix&window=28d&q=never_heard_of",
    }.items():
        answer = await pages.client.get(f"/probes/fog/{chosen}", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, place)
    assert (await pages.client.get(f"/probes/fog/{NUMERIC}?product=nothing")).status == 404


async def test_what_has_a_page_of_its_own_offers_no_filter_that_it_ignores(pages: Pages) -> None:
    [latest, *_] = (await answered(pages.client, "/v1/sessions?product=fog"))["sessions"]
    for path in (f"/sessions/{latest['visitor']}/{latest['started_at']}", f"/nights/{NIGHT}"):
        page = await shown(pages.client, f"{path}?product=fog")
        assert not page.all("select"), path


async def test_empty_buckets_are_left_out_at_the_ends_only() -> None:
    drawn = histogram_of({"histogram": {"0": 0, "2": 0.5, "4": 0, "8": 0.5, "16": 0}})
    assert [(row["from"], row["to"]) for row in drawn] == [(2, 4), (4, 8), (8, 16)]
    assert histogram_of({"histogram": {"0": 0, "1": 0}}) == []
    assert histogram_of({"histogram": {"1": 0.5, "4": 0.5}})[-1]["to"] == 16
