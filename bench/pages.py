"""Measurements of answers of the API with a large log, and against queries of the raw log."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import psutil

from bench.numbers import Row, percentile
from bench.rebuilding import fold_all
from bench.stack import BenchError, Server, Stack, fill_traffic, psql_seconds

SMALL, MILLION, DAYS, PROBES = 100_000, 1_000_000, 90, 5_000
REQUESTS = 100
RAW = "SELECT probe, count(*) FROM event_log WHERE type = 'probe_viewed' GROUP BY probe ORDER BY 2 DESC LIMIT 50"
TODAY = datetime.now(UTC).date()
Ask = Callable[[int], str]


class Page(NamedTuple):
    """A kind of request: the path of the n-th one, and its p99 in milliseconds to reach, if there is one."""

    ask: Ask
    most: float | None = None
    is_same_as_raw: bool = False


def first_day(index: int) -> date:
    """Return a day before the first event, another for each index, so that each request takes as much work."""
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
        lambda n: f"/v1/timeseries?product=fog&probe=probe_{n:04}&interval=day&{time_range(90)}", 25
    ),
    "GLAM's usage call": Page(
        lambda n: f"/api/v1/usage/?agg=count&fields=probe_name&fromDate={first_day(n):%Y%m%d}", 25, is_same_as_raw=True
    ),
    "sessions": Page(lambda n: f"/v1/sessions?limit={100 + n}"),
    "session summary of 30 days": Page(lambda n: f"/v1/sessions/summary?{time_range(30, n)}", 250),
    "journeys of 30 days": Page(lambda n: f"/v1/journeys?{time_range(30, n)}", 250),
}


def time_range(days: int, minutes: int = 0) -> str:
    """Return the parameters of so many days up to today, less a few minutes."""
    until = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) - timedelta(minutes=minutes)
    return f"since={until - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}"


def measure_pages(stack: Stack, runs: int, seconds: float, events: int) -> list[Row]:
    """Measure p99 of answers with `events` and with 100 thousand events, in turns; `seconds` is not used."""
    urls = {number: folded(stack, number) for number in sorted({SMALL, MILLION, events})}
    rows: list[Row] = []
    with stack.serving(urls[SMALL]) as small, stack.serving(urls[events]) as large:
        for what, page in PAGES.items():
            rows += _rows(what, page, small, large, runs, events)
        rows += _backtest(large, events)
    for number in sorted({MILLION, events}):
        with stack.serving(urls[number]) as server:
            pages = {what: page for what, page in PAGES.items() if page.is_same_as_raw}
            rows += [_against_raw(what, page, server, runs, number) for what, page in pages.items()]
    return rows


def folded(stack: Stack, events: int) -> str:
    """Return the URL of a new database with so many events, which the projections have folded."""
    url = stack.database(f"pages_{events}")
    with stack.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS, PROBES)
    fold_all(url)
    return url


def _rows(what: str, page: Page, small: Server, large: Server, runs: int, events: int) -> list[Row]:
    ours, theirs = list[float](), list[float]()
    for server in (small, large):
        _latencies(server, page.ask, runs)  # warms up: the first answers after a start are slower
    for run in range(runs):
        for server, measured in ((large, ours), (small, theirs)):
            measured.append(percentile(_latencies(server, page.ask, run), 0.99))
    named = f"{what}: p99 with {events:,} events"
    rows = [Row(named, "ms", ours, f"with {SMALL:,}", theirs, 1.5, most=True)]
    return rows + ([Row(named, "ms", ours, "allowed", [page.most] * runs, 1, most=True)] if page.most else [])


def _backtest(server: Server, events: int) -> list[Row]:
    """Measure a backtest of ninety nights as the service answers it."""
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
    """Measure how often a second the service and the raw log can be asked, one request after the other."""
    ours, raw = list[float](), list[float]()
    _latencies(server, page.ask, runs)
    for run in range(runs):
        ours.append(1e3 / percentile(_latencies(server, page.ask, run), 0.5))
        raw.append(1 / psql_seconds(server.url, RAW))
    return Row(f"{what}: {events:,} events", "answers/s", ours, "the views counted in the raw log", raw, 50)


def _latencies(server: Server, ask: Ask, run: int) -> list[float]:
    """Return the milliseconds of each request, one after the other on one connection."""
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
