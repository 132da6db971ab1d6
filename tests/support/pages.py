"""The pages with something on each: names that would do harm as HTML, everywhere where names are not checked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import NamedTuple
from uuid import UUID

from tests.support.building import COLUMNS, asked, bring_to, claim, served
from tests.support.night_calls import claim_jobs, night_of, plan
from tests.support.servers import (
    Client,
    Connection,
    JsonObject,
    connected,
    drained_projections,
    event,
    post,
    registered,
)

NASTY = "<script>alert('x')</script>\"&amp; \u202e\u05e9\u05dc\u05d5\u05dd\u202c </title>"
NUMERIC, CATEGORIES, FAILED, RUNNING, EMPTY, MISSING = "gc_ms", "a_flag", "slow_ms", "busy_ms", "rare_ms", "new_ms"
RESTARTED = "late_ms"
PROBES = {NUMERIC: "labeled_timing_distribution", CATEGORIES: "boolean"} | dict.fromkeys(
    (FAILED, RUNNING, EMPTY, MISSING, RESTARTED), "timing_distribution"
)
NIGHT = "5f1c9d1e-8d1b-4c55-9a9c-2f7c3e0f9a11"
# A night whose id is known.
KNOWN_NIGHT = """
INSERT INTO nights (night_id, product, channel, source, run_date, not_before, requested_at)
VALUES ($1, 'fog', 'beta', $2, current_date, now(), now())
"""
BUILDS = ("2026110109", "2026110209", "2026110309")
HISTOGRAM: dict[str, float] = {"0": 0, "1": 0.1, "10": 0.4, "100": 0.3, "1000": 0.2, "10000": 0}
PERCENTILES: dict[str, float] = {
    "0.1": 1,
    "1": 1,
    "5": 1,
    "25": 10,
    "50": 10,
    "75": 100,
    "95": 1000,
    "99": 1000,
    "99.9": 1000,
}
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}
PARTS = (
    "/releases/distributions",
    "/releases/probes",
    "/hotlist/backtest",
    "/hotlist/experiment",
    "/sessions/journeys",
    "/sessions/habits",
)  # loaded into a page
PATHS = (
    "/", "/?product=fog&channel=nightly&window=7d", "/?product=fog&channel=&window=7d",
    "/probes?product=fog&q=ms", "/probes?q=nothing+like+it",
    "/builds?product=fog", "/builds?product=fog&state=failed", "/builds?product=fog&channel=&state=",
    "/nights?product=fog", "/nights?product=fog&channel=release", f"/nights/{NIGHT}",
    "/hotlist?product=fog&budget=10",
    "/hotlist/experiment?product=fog", "/hotlist/backtest?product=fog",
    "/sessions?product=fog&window=90d", "/sessions?product=fog&kind=page",
    "/sessions/journeys?product=fog&kind=page", "/sessions/habits?product=fog&window=90d",
    "/?product=fog&since=2026-11-01&compare=year", "/sessions?product=fog&compare_since=2026-01-01",
    "/unused?product=fog", "/unused?channel=beta",
    "/unused?product=fenix",
    *(f"/probes/fog/{probe}" for probe in PROBES), f"/probes/fog/{NUMERIC}?os=Windows&version=140",
    f"/probes/fog/{NUMERIC}/comparison?channel=nightly", f"/probes/fog/{MISSING}/comparison",
    f"/probes/fog/{CATEGORIES}/comparison?with_build_id=2026110109",
    f"/probes/fog/{NUMERIC}/comparison?with_probe={CATEGORIES}",
    "/releases?product=fog", "/releases/probes?product=fog&at=2026-11-20",
    "/releases/distributions?product=fog&of=nightly&version=141",
    "/releases?product=fog&marks=x_said", "/releases?product=fenix",
    "/?product=fenix", "/builds?product=fenix", "/nights?product=fenix",
    "/hotlist?product=fenix", "/sessions?product=fenix",
    "/login",
)  # fmt: skip


@dataclass
class Element:
    """An element of a page: its attributes, and the text in it and in what it has."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


class Shown(HTMLParser):
    """A page as a browser reads it; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, [element.tag for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened = self._open.pop()
        assert opened.tag == tag, f"{opened.tag} is closed by {tag}"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements of a kind, with these attributes."""
        wanted = attributes.items()
        return [one for one in self.elements if one.tag == tag and wanted <= one.attributes.items()]

    def charts(self) -> list[JsonObject]:
        """Return the specifications of the charts."""
        return [json.loads(script.text) for script in self.all("script", type="application/json")]


def taken(page: Shown) -> list[str]:
    """Return the addresses of the API that a page leads to."""
    places = [link.attributes["href"] or "" for link in page.all("a")]
    return [place for place in places if place.startswith("/v1/") and not place.endswith("/statement")]


class Pages(NamedTuple):
    """A server with something on each page, and its database."""

    client: Client
    database: Connection


@dataclass
class Row:
    """A stored row of a probe."""

    version: int
    os: str = "*"
    build_id: str = "*"
    metric_key: str = ""
    histogram: dict[str, float] = field(default_factory=lambda: HISTOGRAM)
    percentiles: dict[str, float] = field(default_factory=lambda: PERCENTILES)


@asynccontextmanager
async def filled_pages(url: str, **settings: object) -> AsyncIterator[Pages]:
    """Serve the pages for all tests of a module."""
    async with served(url, **settings) as client, connected(url) as database:
        await post(client, *[registered(probe, kind) for probe, kind in PROBES.items()])
        await post(client, registered(NUMERIC, PROBES[NUMERIC], product="fenix"))
        noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)  # days begin where they do
        await post(client, *_traffic(noon - timedelta(days=3)))
        await drained_projections(database)
        await _builds(client, database)
        await _nights(database)
        rule = {"rule": "pinned", "reason": NASTY}
        assert (await client.put(f"/v1/hotlist/rules/fog/{NUMERIC}", json=rule)).status == 200
        await drained_projections(database)  # builds, nights and rules are events, too
        yield Pages(client, database)


async def shown(client: Client, path: str, status: int = 200) -> Shown:
    """Return the page."""
    response = await client.get(path, headers={"Accept": "text/html"})
    text = await response.text()
    assert (response.status, response.content_type) == (status, "text/html"), text[:500]
    return Shown(text)


async def answered(client: Client, path: str) -> JsonObject:
    """Return what the API answers."""
    response = await client.get(path)
    body: JsonObject = await response.json()
    assert response.status == 200, body
    return body


def _traffic(begin: datetime) -> list[JsonObject]:
    """Post releases of one day, and four people on two days, each of whom goes from page to probe to tool."""
    events = [
        event(
            "release_published", occurred_at=begin.isoformat(), visitor=None, channel=channel, data={"version": version}
        )
        for channel, version in (("nightly", 143), ("beta", 142), ("release", 141))
    ]
    for number in range(4):
        at = begin + timedelta(days=number % 2, hours=number)
        who = {"visitor": f"visitor {number}"}
        steps: list[tuple[str, JsonObject]] = [
            (
                "page_viewed",
                {"data": {"page": f"/{NASTY}", "referrer": "https://bugzilla.mozilla.org/1"}, "product": None},
            ),
            ("control_changed", {"data": {"control": NASTY, "value": NASTY}}),
            ("probe_viewed", {"probe": NUMERIC, "channel": "nightly"}),
            ("probe_viewed", {"probe": MISSING, "channel": "nightly", "data": {"found": False}}),
            ("link_followed", {"data": {"tool": NASTY, "url": "https://example.org/"}, "product": None}),
            ("x_said", {"data": {"words": NASTY}, "product": None}),
        ]
        for place, (kind, fields) in enumerate(steps):
            occurred = (at + timedelta(minutes=place)).isoformat()
            events.append(event(kind, occurred_at=occurred, **who, **fields))
    return events


async def _builds(client: Client, database: Connection) -> None:
    for probe, rows in ((NUMERIC, _numeric_rows()), (CATEGORIES, _category_rows())):
        build = await asked(client, probe)
        attempt = await claim(database, build)
        async with database.transaction():
            await _store(database, build, probe, rows)
            await database.execute("SELECT complete_build($1, $2, 1000)", build, attempt)
    await bring_to(database, await asked(client, EMPTY), "no_data")
    failing = await asked(client, FAILED)
    attempt = await claim(database, failing)
    await database.execute("SELECT fail_build($1, $2, 'invalid', $3, NULL)", failing, attempt, NASTY)
    await bring_to(database, await asked(client, RUNNING), "progressed")


async def _nights(database: Connection) -> None:
    """Have a night under way, a job of which runs and another one has failed, and one that was cancelled."""
    await database.execute(KNOWN_NIGHT, NIGHT, NASTY)
    probes = [NUMERIC, FAILED, EMPTY, MISSING, NASTY]
    await database.execute(
        "INSERT INTO night_probes SELECT $1, place, probe, 1.5, CASE probe WHEN $3 THEN 'unknown' ELSE 'listed' END "
        "FROM unnest($2::text[]) WITH ORDINALITY AS p (probe, place)",
        NIGHT,
        probes,
        NASTY,
    )
    await plan(database, [FAILED], [NUMERIC, EMPTY], left=[MISSING])
    for job in await claim_jobs(database):
        held = job["job_id"], job["attempt"]
        if len(job["builds"]) == 1:
            await database.execute("SELECT fail_shared_job($1, $2, 'invalid', $3)", *held, NASTY)
        else:
            await database.execute("SELECT heartbeat_shared_job($1, $2, '1 day', 'aggregating', 40, 2000)", *held)
    await database.execute("SELECT cancel_night($1)", await night_of(database, NUMERIC, channel="release"))


def _numeric_rows() -> list[Row]:
    return [
        Row(version, system, build, label)
        for version in (140, 141)
        for system in ("*", "Windows")
        for build in ("*", *BUILDS)
        for label in ("a", NASTY)
    ]


def _category_rows() -> list[Row]:
    shares = {"always": 0.25, NASTY: 0.75}
    return [Row(141, build_id=build, histogram=shares, percentiles={}) for build in ("*", *BUILDS)]


async def _store(database: Connection, build: UUID, probe: str, rows: list[Row]) -> None:
    records = [
        (
            "fog", "nightly", probe, build, row.version, "*", row.os, row.build_id, PROBES[probe], row.metric_key,
            "summed_histogram", 900, 9_000, *[json.dumps(row.histogram), json.dumps(row.percentiles)] * 2,
        )
        for row in rows
    ]  # fmt: skip
    await database.copy_records_to_table("probe_rows", records=records, columns=COLUMNS)
