"""Measurements of builds: seconds from request to start, builds a second, and answers of fresh builds."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from statistics import median
from typing import NamedTuple

from bench.numbers import Load, Row, percentile
from bench.peers.queues import jobs_a_second, pickup_seconds
from bench.processor_time import Clock
from bench.stack import BENCH_ENVIRONMENT, ROOT, BenchError, Server, Stack, psql
from usage_service.local.owned_process import owned_command
from usage_service.local.postgres_cluster import wait_until

SAMPLES_A_RUN, LOST_SAMPLES, LOADED_SAMPLES = 100, 20, 100
PROBES = 4_000
JOBS, BUILDERS, CONCURRENCY = 1_000, 2, 4
BEGIN_SECONDS, END_SECONDS = 30, 300
POLL_SECONDS = 1.0
REGISTERED = """
    INSERT INTO catalogue (product, probe, metric_type, pings, registered_at, described_at)
    SELECT 'fog', 'probe_' || n, 'counter', '{metrics}', now(), now() FROM generate_series(1, %d) n
"""


class Built(NamedTuple):
    """The builds a second, and the processor seconds of each program a build."""

    builds_a_second: float
    processor: dict[str, float]


class Begun:
    """Times at which builds began, as the builders' processes print them."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._at: dict[str, float] = {}
        self._changed = threading.Condition()

    def listen(self, process: subprocess.Popen[bytes]) -> None:
        """Read what the process prints, in a thread that ends with it."""
        self.pids.append(process.pid)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def wait(self, build_id: str) -> float:
        """Wait until the build has begun, and return the time at which it did."""
        with self._changed:
            if not self._changed.wait_for(lambda: build_id in self._at, BEGIN_SECONDS):
                raise BenchError(f"build {build_id} did not begin within {BEGIN_SECONDS} s")
            return self._at[build_id]

    def wait_for_all(self) -> None:
        """Wait until each process has begun a build, more or less: as many have begun as there are processes."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._at) >= len(self.pids), BEGIN_SECONDS):
                raise BenchError(f"no build began within {BEGIN_SECONDS} s")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            build_id, at = line.split()
            with self._changed:
                self._at[build_id.decode()] = float(at)
                self._changed.notify_all()


def measure_building(stack: Stack, runs: int, seconds: float) -> list[Row]:
    """Measure the pickup idle, under load and without notifications; builds a second; requests for fresh builds."""
    other_url = stack.database("elsewhere")
    with stack.serving(stack.database("building")) as server:
        psql(server.url, REGISTERED % PROBES)
        probes = (f"probe_{number}" for number in count(1))
        idle, theirs = list[list[float]](), list[list[float]]()
        with _building(server.url) as begun:
            for _ in range(runs):
                idle.append(_pickups(server, begun, probes, SAMPLES_A_RUN))
                theirs.append(asyncio.run(pickup_seconds(stack.database(f"peer_{len(idle)}"), SAMPLES_A_RUN)))
            with stack.loading(server, connections=16, events=100, seconds=60, seed="building") as load:
                loaded = _pickups(server, begun, probes, LOADED_SAMPLES)
                load.kill()
            fresh = [stack.load(server, connections=16, kind="fresh", seconds=seconds) for _ in range(runs)]
            alive = [stack.load(server, connections=16, kind="alive", seconds=seconds) for _ in range(runs)]
        with _building(
            server.url, LISTEN_DATABASE_URL=other_url, PROBE_BUILDER_POLL_SECONDS=str(POLL_SECONDS)
        ) as begun:
            lost = _pickups(server, begun, probes, LOST_SAMPLES)
    built = [_builds_a_second(stack, run) for run in range(min(runs, 3))]
    done = [jobs_a_second(stack.database(f"jobs_{run}"), JOBS, BUILDERS, CONCURRENCY) for run in range(min(runs, 3))]
    return _rows(idle, theirs, loaded, lost, built, done, fresh, alive)


def _rows(
    idle: list[list[float]], theirs: list[list[float]], loaded: list[float], lost: list[float],
    built: list[Built], done: list[float], fresh: list[Load], alive: list[Load],
) -> list[Row]:  # fmt: skip
    everything = [value for run in idle for value in run]
    each = {name: median(run.processor[name] for run in built) * 1e6 for name in built[0].processor}
    spent = "processor time a build: " + ", ".join(
        f"{name} {microseconds:.0f} us" for name, microseconds in each.items()
    )
    p50, p95, p99 = (percentile(everything, share) * 1e3 for share in (0.5, 0.95, 0.99))
    note = f"p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms of {len(everything)} samples"
    pickup = "from the HTTP request to the builder's first line, idle"
    halves, peers = ([percentile(run, 0.5) * 1e6 for run in side] for side in (idle, theirs))
    peer, procrastinate = "pgqueuer, from enqueue() to the job's first line", "procrastinate, jobs that do nothing"
    polls, longest = [POLL_SECONDS * 1e3], [max(lost) * 1e3]
    under_load = [percentile(loaded, 0.99) * 1e6]
    nothing = f"builds that compute nothing, {BUILDERS} builders of {CONCURRENCY}"
    known, there = ([load.requests_a_second for load in loads] for loads in (fresh, alive))
    return [
        Row(f"{pickup}: p50", "us", halves, peer, peers, 1, note, most=True),
        Row(f"{pickup}: p99", "us", [p99 * 1e3], "allowed", [15_000.0], 1, most=True),
        Row("the same, notifications lost, the longest", "ms", longest, "between polls", polls, 1, most=True),
        Row("the same under full load on the log: p99", "us", under_load, "idle", [p99 * 1e3], 5, most=True),
        Row(nothing, "builds/s", [run.builds_a_second for run in built], procrastinate, done, 1, spent),
        Row("requests of a probe that is built already", "requests/s", known, "GET /__lbheartbeat__", there, 0.5),
    ]


@contextmanager
def _building(url: str, *, builders: int = 1, **settings: str) -> Iterator[Begun]:
    begun, command = Begun(), owned_command([sys.executable, "-m", "bench.builder"])
    environment = BENCH_ENVIRONMENT | {"DATABASE_URL": url, "PROBE_BUILDER_CONCURRENCY": str(CONCURRENCY)} | settings
    running = [subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(builders)]
    try:
        for process in running:
            begun.listen(process)
        yield begun
    finally:
        for process in running:
            process.terminate()
            process.wait(60)


def _pickups(server: Server, begun: Begun, probes: Iterator[str], samples: int) -> list[float]:
    """Return the seconds until each build began; they are requested one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    begun.wait(_ask(connection, next(probes)))  # the builder is up
    took = []
    for _ in range(samples):
        asked = time.monotonic()
        build_id = _ask(connection, next(probes))
        took.append(begun.wait(build_id) - asked)
        _await_end(connection, build_id)  # a builder that ends a build claims the next one, notified or not
    connection.close()
    return took


def _ask(connection: http.client.HTTPConnection, probe: str) -> str:
    body = json.dumps({"product": "fog", "channel": "nightly", "probe": probe})
    connection.request("POST", "/v1/builds", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status not in (202, 303):  # it may be over already
        raise BenchError(f"a request for {probe} was answered with {response.status}: {answer}")
    return str(answer["build_id"])


def _await_end(connection: http.client.HTTPConnection, build_id: str) -> None:
    connection.request("GET", f"/v1/builds/{build_id}", headers={"Prefer": f"wait={BEGIN_SECONDS}"})
    response = connection.getresponse()
    response.read()
    if response.status != 303:
        raise BenchError(f"build {build_id} was not over: {response.status}")


def _builds_a_second(stack: Stack, run: int) -> Built:
    """Return what builders do that find so many builds queued, from the first claimed to the last done."""
    url = stack.database(f"builds_{run}")
    with stack.serving(url):  # installs the schema
        pass
    psql(url, REGISTERED % JOBS, "SELECT count(request_build(product, 'nightly', probe)) FROM catalogue")
    with _building(url, builders=BUILDERS) as begun:
        begun.wait_for_all()
        before = int(psql(url, "SELECT count(*) FROM builds WHERE finished_at IS NULL"))
        clocks = [Clock({"PostgreSQL": stack.postgres_pid}), *(Clock({"builder": pid}) for pid in begun.pids)]
        over = "SELECT count(*) = 0 FROM builds WHERE finished_at IS NULL"
        if not wait_until(lambda: psql(url, over).strip() == "t", END_SECONDS):
            raise BenchError("the builds did not end")
        seconds = Counter[str]()
        for clock in clocks:
            seconds.update(clock.seconds())
    took = psql(url, "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM builds")
    return Built(JOBS / float(took), {name: used / before for name, used in seconds.items()})
