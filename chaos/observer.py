"""Observations from outside while a fault lasts: heartbeats, metrics, reads, builds, and a reader at the log's end.

It runs in a thread of its own: who does the faults may block. Each observation has its time by the clock that all
processes share, `time.monotonic()`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import aiohttp
import asyncpg

from usage_service.shared.postgres import UNAVAILABLE

HEARTBEAT_SECONDS, SCRAPE_SECONDS, READ_SECONDS, BUILD_SECONDS, FOLLOW_SECONDS = 0.25, 1.0, 0.5, 1.0, 0.5
TIMEOUT = aiohttp.ClientTimeout(total=2.0)
SCRAPE_TIMEOUT = aiohttp.ClientTimeout(total=10.0)  # Prometheus' own
BUILD_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
READS = ("/v1/popularity?product=fog&window=7d&limit=10", "/v1/events?limit=10")
NEW_IN_THE_LOG = "SELECT count(*), max(position) FROM event_log WHERE position > $1"


class Beat(NamedTuple):
    """An answer of a heartbeat or a read: when it came, and its status, 0 for none."""

    at: float
    target: str
    status: int
    body: str = ""


class Scrape(NamedTuple):
    """The metrics of one process at a moment; None where it did not answer."""

    at: float
    job: str
    instance: str
    text: str | None


class Wanted(NamedTuple):
    """A probe to ask a build of."""

    product: str
    channel: str
    probe: str


class Follower:
    """A reader that has seen the log to some position, and how many events it was given up to there."""

    def __init__(self) -> None:
        self.position = 0
        self.events = 0


class Observer:
    """Observations of a running system, in the order of time."""

    def __init__(
        self, database_url: str, servers: Sequence[str], builders: Sequence[str], wanted: Sequence[Wanted]
    ) -> None:
        self._database_url = database_url
        self._servers = servers
        self._builders = builders  # where their metrics are
        self._wanted = iter(wanted)
        self.heartbeats: list[Beat] = []
        self.reads: list[Beat] = []
        self.scrapes: list[Scrape] = []
        self.builds: list[str] = []  # that were accepted
        self.follower = Follower()
        self.asks_for_builds = True

    def well(self, since: float) -> bool:
        """Return whether every server's latest heartbeat is of after `since`, and 200."""
        latest = {beat.target: beat for beat in self.heartbeats[-8 * len(self._servers) :]}
        return len(latest) == len(self._servers) and all(b.at > since and b.status == 200 for b in latest.values())

    async def watch(self, stop: asyncio.Event) -> None:
        """Observe until told to stop."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in self._work(session)]
            await stop.wait()
            for task in tasks:
                task.cancel()

    def _work(self, session: aiohttp.ClientSession) -> Iterator[Coroutine[object, object, None]]:
        for url in self._servers:
            yield _every(HEARTBEAT_SECONDS, partial(self._beat, session, url))
            yield _every(SCRAPE_SECONDS, partial(self._scrape, session, "usage-service", url))
        for url in self._builders:
            yield _every(SCRAPE_SECONDS, partial(self._scrape, session, "probe-builder", url))
        for path in READS:
            yield _every(READ_SECONDS, partial(self._read, session, path))
        yield _every(BUILD_SECONDS, partial(self._ask_for_a_build, session))
        yield self._follow()

    async def _beat(self, session: aiohttp.ClientSession, url: str) -> None:
        status, body = await _get(session, f"{url}/__heartbeat__")
        self.heartbeats.append(Beat(time.monotonic(), url, status, "" if status == 200 else body))

    async def _read(self, session: aiohttp.ClientSession, path: str) -> None:
        """Ask one server after the other, as a load balancer does, until one answers."""
        began = time.monotonic()
        for server in self._servers:
            status, body = await _get(session, f"{server}{path}")
            if status == 200:
                break
        self.reads.append(Beat(began, path, status, "" if status == 200 else body[:300]))

    async def _scrape(self, session: aiohttp.ClientSession, job: str, url: str) -> None:
        status, body = await _get(session, f"{url}/metrics", SCRAPE_TIMEOUT)
        self.scrapes.append(Scrape(time.monotonic(), job, url.removeprefix("http://"), body if status == 200 else None))

    async def _ask_for_a_build(self, session: aiohttp.ClientSession) -> None:
        if not self.asks_for_builds:
            return
        if (wanted := next(self._wanted, None)) is None:
            return
        url = f"{self._servers[len(self.builds) % len(self._servers)]}/v1/builds"
        with suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with session.post(
                url, json=wanted._asdict(), timeout=BUILD_TIMEOUT, allow_redirects=False
            ) as response:
                if response.status in (202, 303):
                    self.builds.append((await response.json())["build_id"])

    async def _follow(self) -> None:
        """Read what is new at the end of the log, as a reader does that goes by positions."""
        while True:
            with suppress(*UNAVAILABLE, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._database_url, timeout=5, command_timeout=5)
                try:
                    while True:
                        found = await connection.fetchrow(NEW_IN_THE_LOG, self.follower.position)
                        if found is not None and found["count"]:
                            self.follower.events += found["count"]
                            self.follower.position = found["max"]
                        await asyncio.sleep(FOLLOW_SECONDS)
                finally:
                    connection.terminate()
            await asyncio.sleep(FOLLOW_SECONDS)


async def _every(seconds: float, look: Callable[[], Awaitable[None]]) -> None:
    """Look again and again, as often as that where a look takes less."""
    while True:
        began = time.monotonic()
        await look()
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))


async def _get(session: aiohttp.ClientSession, url: str, bound: aiohttp.ClientTimeout = TIMEOUT) -> tuple[int, str]:
    try:
        async with session.get(url, timeout=bound) as response:
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        return 0, type(error).__name__


@contextmanager
def observing(observer: Observer) -> Iterator[Observer]:
    """Observe from a thread while the context lasts; what fails there is raised at its end."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(observer.watch(stop))
        except BaseException as error:  # raised where somebody waits for it
            failed.append(error)

    thread = threading.Thread(target=run, name="observer")
    thread.start()
    try:
        yield observer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
    if failed:
        raise failed[0]
