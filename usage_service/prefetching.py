"""Building ahead: the probes that will be looked at, before anybody asks for them."""

from __future__ import annotations

from collections import Counter

from usage_service.builds import request_build
from usage_service.hotlist import hot_probes
from usage_service.shared.postgres import Connection
from usage_service.windows import Days

OUTCOMES = ("created", "pending", "fresh", "unknown", "unbuildable", "excluded")


async def prefetch_hot_probes(
    connection: Connection, days: Days, product: str, channel: str, budget: int
) -> dict[str, int]:
    """Asks for the first `budget` probes of a product's hot list, as builds that nobody waits for; outcomes counted.

    Each is a transaction of its own: none holds the log for longer than a request does. Repeating it is safe.
    """
    outcomes: Counter[str] = Counter()
    for hot in await hot_probes(connection, days, product, budget):
        requested = await request_build(connection, product, channel, hot.probe, "prefetch", prefetch=True)
        outcomes[requested.outcome] += 1
    return {outcome: outcomes[outcome] for outcome in OUTCOMES}
