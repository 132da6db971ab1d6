"""How long answers take when the log is large, and against asking the raw log."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import psutil

from bench.numbers import Row, percentile
from bench.rebuilding import fold_all
from bench.stack import BenchError, House, Server, fill_traffic, psql_seconds

SMALL, MILLION, DAYS, PROBES = 100_000, 1_000_000, 90, 5_000
REQUESTS = 100
RAW = "SELECT probe, count(*) FROM event_log WHERE type = 'probe_viewed' GROUP BY probe ORDER BY 2 DESC LIMIT 50"
TODAY = datetime.now(UTC).date()
Ask = Callable[[int], str]


class Page(NamedTuple):
    """How it is asked for the n-th time, and in how many milliseconds, p99, it is to be there, if that is said."""

    ask: Ask
    most: float | None = None
    is_same_as_raw: bool = False


def first_day(index: int) -> date:
    """The day so many days, and those of the log, ago: no event is from before, so the question is as much work."""
    return TODAY - timedelta(days=DAYS + index)


# The same question again is answered from memory while nothing changed, and one not asked before from the tables.
PAGES: dict[str, Page] = {
    "popularity of 90 days": Page(
        lambda n: f"/v1/popularity?since={first_day(n):%Y-%m-%d}T00:00:00Z", 25, is_same_as_raw=True
    ),
    "popularity of 90 days, one channel": Page(
        lambda n: f"/v1/popularity?channel=beta&since={first_day(n):%Y-%m-%d}T00:00:00Z", 25
    ),
    "popularity of 90 days, with bots": Page(
        lambda n: f"/v1/popularity?bots=true&since={first_day(n):%Y-%m-%d}T00:00:00Z", 25
    ),
    "popularity of 90 days, asked again": Page(lambda _: "/v1/popularity?window=90d&limit=50", is_same_as_raw=True),
    "hot list": Page(lambda n: f"/v1/hotlist?product=fog&budget={500 + n}", 25, is_same_as_raw=True),
    "time series of 90 days": Page(
        lambda n: f"/v1/timeseries?product=fog&probe=probe_{n:04}&interval=day&{span(90)}", 25
    ),
    "GLAM's usage call": Page(
        lambda n: f"/api/v1/usage/?agg=count&fields=probe_name&fromDate={first_day(n):%Y%m%d}", 25, is_same_as_raw=True
    ),
    "sessions": Page(lambda n: f"/v1/sessions?limit={100 + n}"),
    "session summary of 30 days": Page(lambda n: f"/v1/sessions/summary?{span(30, n)}", 250),
    "journeys of 30 days": Page(lambda n: f"/v1/journeys?{span(30, n)}", 250),
}


def span(days: int, minutes: int = 0) -> str:
    """So many days up to today, or a few minutes less."""
    until = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) - timedelta(minutes=minutes)
    return f"since={until - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}"


def measure_pages(house: House, runs: int, seconds: float, events: int) -> list[Row]:
    """p99 of pages with `events` and with 100 thousand events, in turns; `seconds` plays no part."""
    urls = {number: folded(house, number) for number in sorted({SMALL, MILLION, events})}
    rows: list[Row] = []
    with house.serving(urls[SMALL]) as small, house.serving(urls[events]) as large:
        for what, page in PAGES.items():
            rows += _rows(what, page, small, large, runs, events)
        rows += _backtest(large, events)
    for number in sorted({MILLION, events}):
        with house.serving(urls[number]) as server:
            pages = {what: page for what, page in PAGES.items() if page.is_same_as_raw}
            rows += [_against_raw(what, page, server, runs, number) for what, page in pages.items()]
    return rows


def folded(house: House, events: int) -> str:
    """The URL of a database with so many events, which the projections have folded."""
    url = house.database(f"pages_{events}")
    with house.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS, PROBES)
    fold_all(url)
    return url


def _rows(what: str, page: Page, small: Server, large: Server, runs: int, events: int) -> list[Row]:
    ours, theirs = list[float](), list[float]()
    for server in (small, large):
        _latencies(server, page.ask, runs)  # what is read first after a start is not what is asked all day
    for run in range(runs):
        for server, measured in ((large, ours), (small, theirs)):
            measured.append(percentile(_latencies(server, page.ask, run), 0.99))
    named = f"{what}: p99 with {events:,} events"
    rows = [Row(named, "ms", ours, f"with {SMALL:,}", theirs, 1.5, most=True)]
    return rows + ([Row(named, "ms", ours, "allowed", [page.most] * runs, 1, most=True)] if page.most else [])


def _backtest(server: Server, events: int) -> list[Row]:
    """Ninety nights, as the service answers them."""
    started = time.perf_counter()
    _get(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=120), "/v1/hotlist/backtest?product=fog&nights=90"
    )
    seconds = time.perf_counter() - started
    peak = psutil.Process(server.pid).memory_info().rss / 1e6
    what = f"backtest of 90 nights, {events:,} events"
    return [
        Row(what, "s", [seconds], "allowed", [30.0], 1, most=True),
        Row(f"{what}: memory of the server after it", "MB", [peak], "allowed", [1_000.0], 1, most=True),
    ]


def _against_raw(what: str, page: Page, server: Server, runs: int, events: int) -> Row:
    """Times a second: how often each could be asked by one who waits for the answer."""
    ours, raw = list[float](), list[float]()
    _latencies(server, page.ask, runs)
    for run in range(runs):
        ours.append(1e3 / percentile(_latencies(server, page.ask, run), 0.5))
        raw.append(1 / psql_seconds(server.url, RAW))
    return Row(f"{what}: {events:,} events", "answers/s", ours, "the views counted in the raw log", raw, 50)


def _latencies(server: Server, ask: Ask, run: int) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    connection, took = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), list[float]()
    for index in range(REQUESTS):
        started = time.perf_counter()
        _get(connection, ask(run * REQUESTS + index))
        took.append((time.perf_counter() - started) * 1e3)
    connection.close()
    return took


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise BenchError(f"{path} is answered with {response.status}: {body[:200]!r}")
