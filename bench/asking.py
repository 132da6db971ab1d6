"""Requests to a server that is measured, one after the other."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from bench.stack import BenchError, Server

SECONDS = 180
HTML = {"Accept": "text/html", "Accept-Encoding": "gzip"}


class UnavailableError(BenchError):
    """Error when the server says that asking again is safe."""


def answer_of(server: Server, method: str, path: str, body: str | None = None) -> bytes:
    """Return the answer; raise BenchError when it says that something is wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else HTML)
    response = connection.getresponse()
    found = response.read()
    connection.close()
    if response.status == 503:
        raise UnavailableError(f"{method} {path} is answered with 503: {found[:200]!r}")
    if response.status not in (200, 201):
        raise BenchError(f"{method} {path} is answered with {response.status}: {found[:200]!r}")
    return found


def milliseconds(server: Server, path: str) -> float:
    """Return the milliseconds until the answer is there, a new connection included."""
    started = time.perf_counter()
    answer_of(server, "GET", path)
    return (time.perf_counter() - started) * 1e3


def record(server: Server, events: Sequence[dict[str, Any]], *questions: str) -> None:
    """Record events, and wait until the projections have folded them, so that no answer of before is valid.

    Questions are paths with parameters, which wait for all the projections that they are read from.
    """
    named = [{"event_id": str(uuid4()), "product": "fog", **event} for event in events]
    body = json.loads(answer_of(server, "POST", "/v1/events", json.dumps(named)))
    position = max(event["position"] for event in body["events"])
    for question in questions:
        answer_of(server, "GET", f"{question}&at_least={position}&wait=30")
