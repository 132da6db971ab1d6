"""Load generator, in a process of its own: `python -m bench.load --port P --connections C --events E ...`.

Requests are made before the timed part. Every connection sends its next one as soon as the last is answered, or with
--rate at its time, if that is later; an answer with another status than is due ends the run with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator
from itertools import islice, repeat
from typing import cast

import msgspec
import uvloop

from bench.events import make_bodies, make_rounds
from bench.numbers import Load, percentile
from bench.processor_time import Clock

WARM_UP_SECONDS = 0.5
END_SECONDS = 30
UNDER_LOAD = b"under load\n"  # told when the timed part begins: making its requests takes seconds
MOST_REQUESTS_A_SECOND = 15_000
MOST_EVENTS_A_SECOND = 120_000
MOST_MADE_EVENTS = 600_000  # before the timed part; a longer one has them in rounds, under other ids and visitors
# Request and status of each kind: events, a fresh build, the health of the server.
KINDS = {"events": b"HTTP/1.1 201 ", "fresh": b"HTTP/1.1 303 ", "alive": b"HTTP/1.1 200 "}
FRESH = b'{"product": "fog", "channel": "nightly", "probe": "probe_1"}'
ALIVE = b"GET /__lbheartbeat__ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")


class Run:
    """State that the connections of a run share."""

    def __init__(self, requests: Iterator[bytes], status: bytes, rate: float) -> None:
        self.requests = requests
        self.status = status
        self._interval = 1 / rate if rate else 0
        self._next = time.perf_counter()
        self.answers: list[tuple[float, float]] = []  # when it came, after how many seconds
        self.running = True
        self.under_way = 0
        self.over = asyncio.Event()  # stopped, and every request answered
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def due_in(self) -> float:
        """Return the seconds until the next request may be sent."""
        now = time.perf_counter()
        self._next = max(self._next, now - 10 * self._interval) + self._interval
        return max(0.0, self._next - now) if self._interval else 0.0

    def fail(self, why: str) -> None:
        self.running = False
        if not self.failed.done():
            self.failed.set_exception(RuntimeError(why))


class Connection(asyncio.Protocol):
    """Keep-alive connection with one request at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not is_complete(self._received):
            return
        now = time.perf_counter()
        if not self._received.startswith(self._run.status):
            self._run.fail(self._received[:500].decode(errors="replace"))
        self._run.answers.append((now, now - self._sent_at))
        self._received = b""
        self._run.under_way -= 1
        self._go_on()

    def _go_on(self) -> None:
        if not self._run.running:
            if self._run.under_way == 0:
                self._run.over.set()
        elif (wait := self._run.due_in()) > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run.running:
            self._run.fail(f"the server closed a connection: {exc!r}")

    def _send(self) -> None:
        if not self._run.running:
            return
        request = next(self._run.requests, None)
        if request is None or self._transport is None:
            self._run.fail("there are no more requests: the server is faster than was prepared for")
            return
        self._run.under_way += 1
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def is_complete(answer: bytes) -> bool:
    """Return whether an answer is complete."""
    head = answer.find(b"\r\n\r\n")
    length = LENGTH.search(answer, 0, head + 2) if head >= 0 else None
    return length is not None and len(answer) >= head + 4 + int(length[1])


def make_request(body: bytes, path: str = "/v1/events") -> bytes:
    """Return the bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def put_load(options: argparse.Namespace) -> Load:
    """Run the timed part, after a short one to warm up."""
    run = Run(_prepare(options), KINDS[options.kind], options.rate)
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: Connection(run), "127.0.0.1", options.port)
    await _wait(run, WARM_UP_SECONDS)
    sys.stdout.buffer.write(UNDER_LOAD)
    sys.stdout.buffer.flush()
    clock, since = Clock(dict(options.watch) | {"generator": os.getpid()}), time.perf_counter()
    await _wait(run, options.seconds)
    cores, until = clock.cores(), time.perf_counter()
    run.running = False
    if run.under_way:
        async with asyncio.timeout(END_SECONDS):
            await run.over.wait()
    return _summary([took for at, took in run.answers if since <= at <= until], until - since, options.events, cores)


async def _wait(run: Run, seconds: float) -> None:
    await asyncio.wait([run.failed], timeout=seconds)
    if run.failed.done():
        run.failed.result()


def _prepare(options: argparse.Namespace) -> Iterator[bytes]:
    if options.kind != "events":
        return repeat(ALIVE if options.kind == "alive" else make_request(FRESH, "/v1/builds"))
    rate = min(MOST_REQUESTS_A_SECOND, MOST_EVENTS_A_SECOND // options.events)
    number = int(rate * (options.seconds + 2 * WARM_UP_SECONDS)) + options.connections
    if number * options.events > MOST_MADE_EVENTS:
        return make_rounds(options.seed, options.events, MOST_MADE_EVENTS // options.events, make_request)
    return iter([make_request(body) for body in islice(make_bodies(options.seed, options.events), number)])


def _summary(took: list[float], seconds: float, events: int, cores: dict[str, float]) -> Load:
    p50, p95, p99 = (percentile(took, share) for share in (0.5, 0.95, 0.99))
    rate = len(took) / seconds
    return Load(requests_a_second=rate, events_a_second=rate * events, p50=p50, p95=p95, p99=p99, cores=cores)


def _program(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    return name, int(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="events")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--events", type=int, default=1, help="in each request")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", default="")
    parser.add_argument("--rate", type=float, default=0, help="requests a second at most; 0 for no such bound")
    parser.add_argument("--watch", type=_program, nargs="*", default=[], help="NAME=PID, to measure processor time of")
    load = uvloop.run(put_load(parser.parse_args()))
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
