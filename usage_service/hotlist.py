"""The hot list: which probes the ETL should build."""

from __future__ import annotations

import msgspec

from usage_service.popularity import PopularProbe, Ranking, popular_probes
from usage_service.shared.postgres import Connection
from usage_service.windows import Days


class HotProbe(msgspec.Struct, frozen=True):
    """A probe worth building: the score that ranks it, and what it is made of."""

    product: str
    probe: str
    score: float
    reasons: list[str]


async def hot_probes(connection: Connection, days: Days, product: str | None, budget: int) -> list[HotProbe]:
    """The `budget` most viewed probes of the window; people only, bots look at anything."""
    popular = await popular_probes(connection, Ranking(days, product), budget)
    return [_hot(probe) for probe in popular.probes]


def _hot(probe: PopularProbe) -> HotProbe:
    reasons = [f"{probe.views} views by {probe.visitors} visitors"]
    if probe.missing:
        reasons.append(f"asked for and missing {probe.missing} times")
    return HotProbe(probe.product, probe.probe, float(probe.views), reasons)
