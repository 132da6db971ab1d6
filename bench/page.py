"""Measurements of the web page: its first view in a browser with an empty cache, and each view's time on the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser

from bench.asking import milliseconds, record
from bench.numbers import Row, percentile
from bench.pages import folded
from bench.stack import BenchError, Server, Stack
from browser.chromium import NoChromiumError, needed_chromium, open_browser, wait_until_drawn

REQUESTS, WARM = 50, 3
WEEKS, RELEASES = 4, 13
MOST_SECONDS, MOST_KILOBYTES, MOST_MILLISECONDS = 1.0, 600.0, 100.0
FIRST = "/?product=fog"
VIEWS = {
    "overview": FIRST,
    "overview of a channel": f"{FIRST}&channel=beta&window=90d",
    "overview compared with the days before": f"{FIRST}&compare=before",
    "overview of a year": f"{FIRST}&window=365d",
    "probe": "/probes/fog/probe_0001?window=28d",
    "sessions": "/sessions?product=fog",
    "sessions compared with the days before": "/sessions?product=fog&compare=before",
    "funnel and who comes back": "/sessions/habits?product=fog",
    "which step follows which": "/sessions/journeys?product=fog",
    "hot list": "/hotlist?product=fog",
    "builds": "/builds?product=fog",
    "unused": "/unused?product=fog",
    "probes": "/probes?product=fog",
    "probes found": "/probes/found?product=fog&q=probe_00",
    "nights": "/nights?product=fog",
    "releases": "/releases?product=fog",
    "probes that a release changed": "/releases/probes?product=fog&at={released:%Y-%m-%d}",
}


def measure_page(stack: Stack, runs: int, seconds: float, events: int) -> Iterator[Row]:
    """Measure p99 of each view, with `events` events, after new events and without; `seconds` is not used."""
    try:
        needed_chromium()  # known before minutes of measuring, not after
    except NoChromiumError as error:
        raise BenchError(f"the first view is measured in a browser: {error}") from error
    with stack.serving(folded(stack, events)) as server:
        released = datetime.now(UTC) - timedelta(days=WEEKS * 7)
        _release(server, released)
        for what, path in VIEWS.items():
            yield from _view(server, what, path.format(released=released), runs, events)
        with open_browser() as browser:
            yield from _first_view(browser, server, runs, events)


def _release(server: Server, last: datetime) -> None:
    """Record a release every four weeks of the past year, on each channel that has views."""
    releases = [
        {
            "type": "release_published", "occurred_at": (last - timedelta(weeks=WEEKS * number)).isoformat(),
            "channel": channel, "data": {"version": 145 - number},
        }
        for number in range(RELEASES) for channel in ("nightly", "beta", "release")
    ]  # fmt: skip
    record(server, releases, "/v1/popularity?limit=1")


def _first_view(browser: Browser, server: Server, runs: int, events: int) -> list[Row]:
    """Measure the time until all charts are drawn, and the bytes transferred for them."""
    measured = list[tuple[float, int]]()
    for _ in range(runs + 1):
        _move_the_log(server)
        measured.append(_opened(browser, f"http://127.0.0.1:{server.port}{FIRST}"))
    del measured[0]  # the browser's own first page
    what = f"first view complete, nothing of it in the browser, {events:,} events"
    milliseconds, kilobytes = [took * 1e3 for took, _ in measured], [size / 1e3 for _, size in measured]
    return [
        Row(what, "ms", milliseconds, "allowed", [MOST_SECONDS * 1e3] * runs, 1, most=True),
        Row(f"{what}: over the wire", "kB", kilobytes, "allowed", [MOST_KILOBYTES] * runs, 1, most=True),
    ]


def _opened(browser: Browser, url: str) -> tuple[float, int]:
    context = browser.new_context()
    page, sizes = context.new_page(), list[int]()
    protocol = context.new_cdp_session(page)
    protocol.send("Network.enable")
    protocol.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    started = time.perf_counter()
    page.goto(url)
    wait_until_drawn(page)
    took = time.perf_counter() - started
    context.close()
    return took, sum(sizes)


def _view(server: Server, what: str, path: str, runs: int, events: int) -> list[Row]:
    moved, again = list[float](), list[float]()
    for _ in range(WARM):
        milliseconds(server, path)
    for _ in range(runs):
        moved.append(percentile([_after_moving(server, path) for _ in range(REQUESTS)], 0.99))
        again.append(percentile([milliseconds(server, path) for _ in range(REQUESTS)], 0.99))
    allowed = [MOST_MILLISECONDS] * runs
    named = f"{what}: p99 with {events:,} events"
    return [
        Row(f"{named}, after the log has moved", "ms", moved, "allowed", allowed, 1, most=True),
        Row(f"{named}, asked again", "ms", again, "allowed", allowed, 1, most=True),
    ]


def _after_moving(server: Server, path: str) -> float:
    _move_the_log(server)
    return milliseconds(server, path)


def _move_the_log(server: Server) -> None:
    """Record a view, and wait until every projection has folded it, so that no cached answer is valid."""
    event = {
        "type": "probe_viewed", "occurred_at": datetime.now(UTC).isoformat(), "visitor": "bench", "channel": "nightly",
        "probe": "probe_0001", "data": {"found": False},
    }  # fmt: skip
    record(server, [event], "/v1/popularity?limit=1", "/v1/sessions?limit=1")
