"""How long answers take when the log is large, and against asking the raw log."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from bench.house import BenchError, House, Server, fill_traffic, psql, psql_seconds
from bench.numbers import Row, percentile
from bench.rebuilding import fold_all

SMALL, MILLION, DAYS = 100_000, 1_000_000, 90
REQUESTS = 100
RAW = "SELECT probe, count(*) FROM event_log WHERE type = 'probe_viewed' GROUP BY probe ORDER BY 2 DESC LIMIT 50"
Ask = Callable[[int], str]
# The same question again is answered from memory while nothing changed, and one not asked before from the tables.
PAGES: dict[str, Ask] = {
    "popularity of 90 days, not asked before": lambda index: f"/v1/popularity?window=90d&limit={50 + index}",
    "popularity of 90 days, asked again": lambda _: "/v1/popularity?window=90d&limit=50",
    "sessions, not asked before": lambda index: f"/v1/sessions?limit={100 + index}",
    "sessions, asked again": lambda _: "/v1/sessions?limit=100",
}


def measure_pages(house: House, runs: int, seconds: float, events: int) -> list[Row]:
    """p99 of pages with `events` and with 100 thousand events, in turns; `seconds` plays no part."""
    urls = {number: _folded(house, number) for number in {SMALL, MILLION, events}}
    with house.serving(urls[SMALL]) as small, house.serving(urls[events]) as large:
        rows = [_row(what, ask, small, large, runs, events) for what, ask in PAGES.items()]
    with house.serving(urls[MILLION]) as server:
        return rows + [_against_raw(what, PAGES[what], server, runs) for what in list(PAGES)[:2]]


def _folded(house: House, events: int) -> str:
    url = house.database(f"pages_{events}")
    with house.serving(url):  # installs the schema
        pass
    fill_traffic(url, events, DAYS)
    fold_all(url)
    return url


def _row(what: str, ask: Ask, small: Server, large: Server, runs: int, events: int) -> Row:
    ours, theirs = list[float](), list[float]()
    for run in range(runs):
        for server, measured in ((large, ours), (small, theirs)):
            measured.append(percentile(_latencies(server, ask, run), 0.99))
    return Row(f"{what}: p99 with {events:,} events", "ms", ours, f"with {SMALL:,}", theirs, 1.5, most=True)


def _against_raw(what: str, ask: Ask, server: Server, runs: int) -> Row:
    """Times a second: how often each could be asked by one who waits for the answer."""
    ours, raw = list[float](), list[float]()
    for run in range(runs):
        ours.append(1e3 / percentile(_latencies(server, ask, run), 0.5))
        raw.append(1 / psql_seconds(server.url, RAW))
    psql(server.url, "SELECT 1")
    return Row(f"{what}: {MILLION:,} events", "answers/s", ours, "the same counted in the raw log", raw, 50)


def _latencies(server: Server, ask: Ask, run: int) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    connection, took = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), list[float]()
    for index in range(REQUESTS):
        started = time.perf_counter()
        connection.request("GET", ask(run * REQUESTS + index))
        response = connection.getresponse()
        response.read()
        took.append((time.perf_counter() - started) * 1e3)
        if response.status != 200:
            raise BenchError(f"{ask(index)} was answered with {response.status}")
    connection.close()
    return took
