"""Events to post, of the last minute; the same seed makes the same events."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

VISITORS = 1_000  # at a time
EVENTS_A_VISIT = 20
PROBES = 1_000
# Kinds of events, weighted by how often users of a dashboard cause them.
KINDS: tuple[tuple[int, str, dict[str, object]], ...] = (
    (60, "probe_viewed", {"found": True, "ping_type": "metrics", "os": "Windows", "versions": [143, 144, 145]}),
    (25, "control_changed", {"control": "aggregation_level", "value": "build_id"}),
    (15, "page_viewed", {"page": "/fog/probe/gc_ms/explore", "referrer": "https://example.org/"}),
)


def make_events(seed: str) -> Iterator[bytes]:
    """Make events as JSON, without end."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    templates = [_template(kind, data) for share, kind, data in KINDS for _ in range(share)]
    for index in count():
        number = chance.getrandbits(128)
        instant = now - timedelta(milliseconds=number % 60_000)
        yield chance.choice(templates) % (
            _uuid(f"{number:032x}"),
            instant.isoformat(timespec="milliseconds").encode(),
            index // (VISITORS * EVENTS_A_VISIT),
            number % VISITORS,
            number // VISITORS % PROBES,
        )


def make_bodies(seed: str, events_each: int) -> Iterator[bytes]:
    """Make bodies of requests: a bare event, or an array."""
    events = make_events(seed)
    if events_each == 1:
        yield from events
    while True:
        yield b"[" + b",".join(next(events) for _ in range(events_each)) + b"]"


def _template(kind: str, data: dict[str, object]) -> bytes:
    event = {
        "event_id": "%s",
        "type": kind,
        "occurred_at": "%s",
        "visitor": "visitor %d.%03d",
        "product": "fog",
        "channel": "nightly",
        "probe": "probe_%04d",
        "data": data,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _uuid(digits: str) -> bytes:
    """Return a UUID of version 4 made of these digits."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}".encode()
