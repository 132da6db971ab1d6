"""Events to post, of the last minute; the same seed makes the same events."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice

VISITORS = 1_000  # at a time
EVENTS_A_VISIT = 20
PROBES = 1_000
ROUND = b"%08x"  # the number of a round, a part of each event's id and of its visitor
# Kinds of events, weighted by how often users of a dashboard cause them.
KINDS: tuple[tuple[int, str, dict[str, object]], ...] = (
    (60, "probe_viewed", {"found": True, "ping_type": "metrics", "os": "Windows", "versions": [143, 144, 145]}),
    (25, "control_changed", {"control": "aggregation_level", "value": "build_id"}),
    (15, "page_viewed", {"page": "/fog/probe/gc_ms/explore", "referrer": "https://example.org/"}),
)


def make_events(seed: str, round_number: bytes = ROUND % 0) -> Iterator[bytes]:
    """Make events as JSON, without end."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    templates = [_template(kind, data) for share, kind, data in KINDS for _ in range(share)]
    for index in count():
        number = chance.getrandbits(128)
        instant = now - timedelta(milliseconds=number % 60_000)
        yield chance.choice(templates) % (
            _uuid(f"{number:032x}")[:-8] + round_number,
            instant.isoformat(timespec="milliseconds").encode(),
            round_number,
            index // (VISITORS * EVENTS_A_VISIT),
            number % VISITORS,
            number // VISITORS % PROBES,
        )


def make_bodies(seed: str, events_each: int, round_number: bytes = ROUND % 0) -> Iterator[bytes]:
    """Make bodies of requests: a bare event, or an array."""
    events = make_events(seed, round_number)
    if events_each == 1:
        yield from events
    while True:
        yield b"[" + b",".join(next(events) for _ in range(events_each)) + b"]"


def make_rounds(seed: str, events_each: int, bodies: int, wrap: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Make so many bodies, wrapped, and yield them in rounds without end: each has other ids and visitors.

    That takes a few microseconds a body, where making one takes ten an event.
    """
    mark = b"\0" * len(ROUND % 0)
    made = [wrap(body).split(mark) for body in islice(make_bodies(seed, events_each, mark), bodies)]
    for number in count():
        for parts in made:
            yield (ROUND % number).join(parts)


def _template(kind: str, data: dict[str, object]) -> bytes:
    event = {
        "event_id": "%s",
        "type": kind,
        "occurred_at": "%s",
        "visitor": "visitor %s.%d.%03d",
        "product": "fog",
        "channel": "nightly",
        "probe": "probe_%04d",
        "data": data,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _uuid(digits: str) -> bytes:
    """Return a UUID of version 4 made of these digits."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}".encode()
