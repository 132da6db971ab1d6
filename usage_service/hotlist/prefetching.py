"""Building ahead: the probes that will be looked at, before anybody asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from usage_service.builds.requests import request_build
from usage_service.hotlist.listing import HotProbe
from usage_service.shared.postgres import Connection

OUTCOMES = ("created", "pending", "fresh", "unknown", "unbuildable", "excluded")


async def prefetch_probes(connection: Connection, probes: Sequence[HotProbe], channel: str) -> dict[str, int]:
    """Asks for the probes of a hot list, as builds that nobody waits for; outcomes counted.

    Each is a transaction of its own: none holds the log for longer than a request does. Repeating it is safe.
    """
    outcomes: Counter[str] = Counter()
    for hot in probes:
        requested = await request_build(connection, hot.product, channel, hot.probe, "prefetch", prefetch=True)
        outcomes[requested.outcome] += 1
    return {outcome: outcomes[outcome] for outcome in OUTCOMES}
