"""Clients that post until they are acknowledged, in a process of their own: `python -m chaos.load --ports P,Q ...`.

Single events and batches mixed, each kind at a rate of its own. A request that fails is sent again, to the next server,
until it is acknowledged: what a client with a spool does. Now and then one is sent again that was acknowledged before.
Every tenth of a second a line on stdout says when the last acknowledgement came; SIGTERM ends it once all that was sent
is acknowledged, and what was acknowledged is written to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.events import make_bodies
from bench.load import is_complete, make_request

ANSWER_SECONDS = 10.0  # what a client waits for an answer
RETRY_SECONDS = 0.2
TELL_SECONDS = 0.1
DRAIN_SECONDS = 90.0
REPEATED = 50  # one request in so many is sent a second time
EVENT_ID = re.compile(rb'"event_id":"([0-9a-f-]{36})"')
MOST_REFUSALS = 20


class Acknowledged(msgspec.Struct, frozen=True, array_like=True):
    """An acknowledged request: when, after how many seconds since it was first sent, and how many events."""

    at: float
    took: float
    events: int


class Sent(msgspec.Struct):
    """Events that the clients have sent, and the answers to them."""

    positions: dict[str, int] = {}
    acknowledged: list[Acknowledged] = []
    moved: list[str] = []  # acknowledged with two positions
    refused: list[str] = []  # answers after which a client gives an event up
    unanswered: list[str] = []  # sent, never acknowledged: allowed to be in the log or not
    requests: int = 0  # attempts included
    failures: dict[str, int] = {}  # attempts that were not acknowledged, by what was answered


class Told(msgspec.Struct, frozen=True):
    """The line that says how it goes."""

    at: float
    requests: int
    events: int
    last: float  # when the last acknowledgement came


class Item(msgspec.Struct, frozen=True):
    event_id: str = ""
    status: str = ""
    position: int = 0


class Answer(msgspec.Struct, frozen=True):
    events: list[Item] = []


class Kind:
    """Requests of one size, at a rate that all connections of the kind share."""

    def __init__(self, seed: str, events: int, rate: float) -> None:
        self._bodies = make_bodies(seed, events)
        self._interval = 1 / rate
        self._next = time.monotonic()
        self.events = events

    def body(self) -> bytes:
        return next(self._bodies)

    def due_in(self) -> float:
        """Return the seconds until the next request is due; what an outage held up is not made up for."""
        now = time.monotonic()
        self._next = max(self._next, now - self._interval) + self._interval
        return max(0.0, self._next - now)


class Clients:
    """State that all connections share."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self.sent = Sent()
        self.events = 0
        self.running = True
        self.lanes: list[Lane] = []

    def port(self, turn: int) -> int:
        return self._ports[turn % len(self._ports)]

    def failed(self, how: str) -> None:
        self.sent.failures[how] = self.sent.failures.get(how, 0) + 1

    def acknowledge(self, first_sent: float, answer: Answer, ids: list[str]) -> None:
        """Keep what was acknowledged; an event that is not in the answer was not."""
        now, positions = time.monotonic(), self.sent.positions
        for item in answer.events:
            if item.status not in ("recorded", "duplicate"):
                self.refuse(f"{item}")
            elif positions.setdefault(item.event_id, item.position) != item.position:
                self.sent.moved.append(item.event_id)
        self.sent.unanswered += [event_id for event_id in ids if event_id not in positions]
        self.events += len(ids)
        self.sent.acknowledged.append(Acknowledged(now, now - first_sent, len(ids)))

    def refuse(self, text: str) -> None:
        if len(self.sent.refused) < MOST_REFUSALS:
            self.sent.refused.append(text[:300])

    def told(self) -> Told:
        last = self.sent.acknowledged[-1].at if self.sent.acknowledged else 0.0
        return Told(time.monotonic(), len(self.sent.acknowledged), self.events, last)


class Lane(asyncio.Protocol):
    """A client: a connection that is kept, with one request at a time."""

    def __init__(self, clients: Clients, kind: Kind, turn: int) -> None:
        self._clients = clients
        self._kind = kind
        self._turn = turn
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._connecting: asyncio.Task[None] | None = None
        self._body = b""
        self._first_sent = self._sent = 0.0
        self._repeats = 0
        self.busy = False  # a request waits to be acknowledged
        self._awaited = False  # an answer is due on this connection

    def begin(self) -> None:
        """Take the next request when it is due."""
        self.busy = False
        if self._clients.running:
            asyncio.get_running_loop().call_later(self._kind.due_in(), self._take)

    def _take(self) -> None:
        if not self._clients.running:
            return
        self._repeats += 1
        if self._repeats % REPEATED or not self._body:
            self._body = self._kind.body()
        self.busy, self._first_sent = True, time.monotonic()
        self._send()

    def _send(self) -> None:
        if self._transport is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        self._clients.sent.requests += 1
        self._awaited, self._sent = True, time.monotonic()
        self._transport.write(make_request(self._body))

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                port = self._clients.port(self._turn)
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except (OSError, TimeoutError) as error:
            self._again(type(error).__name__)
        else:
            self._send()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._received = cast(asyncio.Transport, transport), b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._awaited:
            self._again("closed")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._awaited and is_complete(self._received):
            self._awaited = False
            answer, self._received = self._received, b""
            self._judge(int(answer[9:12]), answer)

    def _judge(self, status: int, answer: bytes) -> None:
        if status in (429, 503):
            self._again(str(status))
        elif status in (201, 207):
            ids = [found.decode() for found in EVENT_ID.findall(self._body)]
            body = answer[answer.index(b"\r\n\r\n") + 4 :]
            self._clients.acknowledge(self._first_sent, msgspec.json.decode(body, type=Answer), ids)
            self.begin()
        else:
            self._clients.failed(str(status))
            self._clients.refuse(answer.decode(errors="replace"))
            self._clients.sent.unanswered += [found.decode() for found in EVENT_ID.findall(self._body)]
            self._body = b""
            self.begin()

    def _again(self, how: str) -> None:
        """Send the same again after a moment, to the next server."""
        self._clients.failed(how)
        self._awaited = False
        self._turn += 1
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._send)

    def check(self, now: float) -> None:
        """Give an answer up that has not come in time."""
        if self._awaited and now - self._sent > ANSWER_SECONDS:
            self._again("no answer")

    def unanswered(self) -> Iterator[str]:
        if self.busy:
            yield from (found.decode() for found in EVENT_ID.findall(self._body))


async def put_load(options: argparse.Namespace) -> Sent:
    """Post until SIGTERM and until all is acknowledged, or for so many seconds after it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clients = Clients([int(port) for port in options.ports.split(",")])
    kinds = [
        (Kind(f"{options.seed} singles", 1, options.singles), options.single_clients),
        (Kind(f"{options.seed} batches", options.batch, options.batches), options.batch_clients),
    ]
    clients.lanes = [Lane(clients, kind, turn) for kind, number in kinds for turn in range(number)]
    for lane in clients.lanes:
        lane.begin()
    stopped: float | None = None
    while stopped is None or (any(lane.busy for lane in clients.lanes) and time.monotonic() - stopped < DRAIN_SECONDS):
        await asyncio.sleep(TELL_SECONDS)
        now = time.monotonic()
        for lane in clients.lanes:
            lane.check(now)
        _tell(clients.told())
        if stopped is None and stop.is_set():
            stopped, clients.running = now, False
    clients.sent.unanswered += [event_id for lane in clients.lanes for event_id in lane.unanswered()]
    return clients.sent


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True, help="of the servers, by commas")
    parser.add_argument("--singles", type=float, required=True, help="requests of one event a second")
    parser.add_argument("--batches", type=float, required=True, help="requests of many events a second")
    parser.add_argument("--batch", type=int, default=100, help="events in each of those")
    parser.add_argument("--single-clients", type=int, default=24)
    parser.add_argument("--batch-clients", type=int, default=8)
    parser.add_argument("--seed", default="")
    parser.add_argument("--out", type=Path, required=True, help="the file for what was acknowledged")
    options = parser.parse_args()
    options.out.write_bytes(msgspec.msgpack.encode(uvloop.run(put_load(options))))


if __name__ == "__main__":
    main()
