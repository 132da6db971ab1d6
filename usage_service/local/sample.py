"""Sample traffic: events as of a team of engineers that uses the app for four weeks, from a fixed seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

DAYS = 28
VISITORS = 120
BOTS = 3
SEED = 20261124
UNVIEWED = 6  # one in so many probes is viewed by nobody
CONTROLS = {
    "os": ["Windows", "Darwin", "Linux", "*"],
    "aggregation_level": ["version", "build_id"],
    "process": ["parent"],
}
TOOLS = ["Looker", "STMO", "Bugzilla", "Glean Dictionary", "Searchfox"]
REFERRERS = ["dictionary.telemetry.mozilla.org", "bugzilla.mozilla.org", "sql.telemetry.mozilla.org", None, None, None]

JsonObject = dict[str, Any]


def write_sample_traffic(catalogue: Path, traffic: Path, until: date) -> None:
    """Write four weeks of events up to `until` about the probes of a catalogue of events, one JSON object a line."""
    probes = [json.loads(line) for line in catalogue.read_text("utf-8").splitlines()]
    names = [(probe["product"], probe["probe"]) for probe in probes]
    with traffic.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in sample_traffic(names, until))


def sample_traffic(probes: Sequence[tuple[str, str]], until: date, seed: int = SEED) -> Iterator[JsonObject]:
    """Make the events of DAYS days before `until`; popularity falls off as in Zipf's law, weekends are quiet."""
    dice = random.Random(seed)
    named = sorted(set(probes))
    ranked = dice.sample(named, len(named) - len(named) // UNVIEWED)
    weights = list(accumulate(1 / rank for rank in range(1, len(ranked) + 1)))
    for age in range(DAYS, 0, -1):
        day = until - timedelta(days=age)
        for visitor in range(VISITORS):
            bot = visitor < BOTS
            if bot or dice.random() < (0.1 if day.weekday() >= 5 else 0.45):
                yield from _session(dice, f"person-{visitor}", bot, day, ranked, weights)


def _session(
    dice: random.Random, visitor: str, bot: bool, day: date, ranked: list[tuple[str, str]], weights: list[float]
) -> Iterator[JsonObject]:
    clock = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=dice.triangular(0, 86_000, 54_000))
    bot_field = {"bot": True} if bot else {}

    def event(kind: str, data: JsonObject, **more: str) -> JsonObject:
        nonlocal clock
        clock += timedelta(seconds=dice.uniform(1, 5) if bot else dice.expovariate(1 / 60))
        return {"type": kind, "occurred_at": clock.isoformat(), "visitor": visitor, **more, "data": data | bot_field}

    referrer = dice.choice(REFERRERS)
    yield event("page_viewed", {"page": "/"} | ({"referrer": referrer} if referrer else {}), product="fog")
    for _ in range(dice.randint(20, 40) if bot else dice.randint(1, 6)):
        [(product, probe)] = dice.choices(ranked, cum_weights=weights)
        named = {"product": product, "channel": "nightly"}
        if not bot and dice.random() < 0.5:
            yield event(
                "probe_searched", {"query": probe.split("_")[0], "results": dice.randint(1, 40)}, product=product
            )
        yield event("page_viewed", {"page": f"/{product}/probe/{probe}/explore"}, **named)
        yield event("probe_viewed", {"found": dice.random() < 0.8}, **named, probe=probe)
        if not bot and dice.random() < 0.3:
            control = dice.choice(sorted(CONTROLS))
            yield event("control_changed", {"control": control, "value": dice.choice(CONTROLS[control])}, **named)
    if not bot and dice.random() < 0.35:
        yield event("link_followed", {"tool": dice.choice(TOOLS)}, product="fog")
