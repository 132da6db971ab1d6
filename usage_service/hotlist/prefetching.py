"""Prefetching: builds of the probes that are expected to be viewed, before anybody asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from usage_service.builds.requests import request_build
from usage_service.hotlist.listing import HotProbe
from usage_service.shared.postgres import Connection

OUTCOMES = ("created", "pending", "fresh", "unknown", "unbuildable", "excluded")


async def prefetch_probes(connection: Connection, probes: Sequence[HotProbe], channel: str) -> dict[str, int]:
    """Request builds of the probes of a hot list, which nobody waits for, and count the outcomes.

    Each request is a transaction of its own, so that none locks the log for long. Repeating the call is safe.
    """
    outcomes: Counter[str] = Counter()
    for hot in probes:
        requested = await request_build(connection, hot.product, channel, hot.probe, "prefetch", prefetch=True)
        outcomes[requested.outcome] += 1
    return {outcome: outcomes[outcome] for outcome in OUTCOMES}
