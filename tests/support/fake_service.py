"""A service on loopback that misbehaves as told, and remembers what it recorded."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Fault = str | tuple[int, dict[str, str]] | None
Plan = Callable[[int, list[dict[str, Any]]], Fault]


class FakeService:
    """Answers like POST /v1/events; `plan(request number, events)` says how a request is to go wrong.

    Faults: "unread" resets before and "lost" after recording, "half" cuts the answer short, "html" answers 200 with a
    page, "short" 201 without a word of the events, a pair is a status and headers.
    """

    def __init__(self, plan: Plan = lambda number, events: None) -> None:
        self.plan = plan
        self.events: dict[str, dict[str, Any]] = {}
        self.times: list[float] = []
        self.repeated: list[str] = []
        self.packed = self.connections = 0
        self.authorized: set[str | None] = set()
        self.port = 0
        self._lock = threading.Lock()
        self._server: _Server | None = None

    @property
    def repeats(self) -> int:
        return len(self.repeated)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        service = self

        class Handler(_Handler):
            fake = service

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        """Close what was opened, as a server does that ends, and wait for the threads."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def judge(self, events: list[dict[str, Any]]) -> Fault:
        with self._lock:
            self.times.append(time.monotonic())
            return self.plan(len(self.times), events)

    def record(self, events: list[dict[str, Any]]) -> bytes:
        with self._lock:
            items = [self._record(index, event) for index, event in enumerate(events)]
        return json.dumps({"events": items}).encode()

    def _record(self, index: int, event: dict[str, Any]) -> dict[str, Any]:
        known = event["event_id"] in self.events
        if known:
            self.repeated.append(event["event_id"])
        self.events[event["event_id"]] = event
        return {"index": index, "event_id": event["event_id"], "status": "duplicate" if known else "recorded"}


class _Server(http.server.ThreadingHTTPServer):
    """Serves each connection in a thread, and leaves none behind."""

    daemon_threads = False  # only those of others are waited for

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        self._open -= {request}
        super().close_request(request)

    def server_close(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):  # it has been reset
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeService

    def setup(self) -> None:
        super().setup()
        self.fake.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            self.fake.packed += 1
            body = gzip.decompress(body)
        self.fake.authorized.add(self.headers.get("Authorization"))
        sent = json.loads(body)
        events = sent if isinstance(sent, list) else sent["events"]
        fault = self.fake.judge(events)
        if fault == "unread":
            return self._reset()
        if isinstance(fault, tuple):
            return self._answer(fault[0], b"{}", fault[1])
        if fault == "short":
            return self._answer(201, b'{"events": []}', {})
        if fault == "html":
            return self._answer(200, b"<p>hello", {})
        answer = self.fake.record(events)
        if fault == "lost":
            return self._reset()
        if fault == "half":
            self._answer(201, answer, {}, len(answer) // 2)
            return self._reset()
        return self._answer(201, answer, {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the connection was reset, by us or by the client
            self.close_connection = True

    def finish(self) -> None:
        self.rfile.close()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep quiet."""


@contextmanager
def fake_service(plan: Plan = lambda number, events: None) -> Iterator[FakeService]:
    service = FakeService(plan)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def soon(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        threading.Event().wait(0.02)
