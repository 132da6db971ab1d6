"""Sample traffic: events as of a team of engineers that has used the app for eight weeks, from a fixed seed.

There is something to find in it: people come in teams, so that some probes are viewed together; a release brings views;
and while a probe has regressed in the sample pings, people view it more, until the fix.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

DAYS = 56
VISITORS = 120
BOTS = 3
SEED = 20261124
UNVIEWED = 6  # one in so many probes is viewed by nobody
# Days ago: of releases, with the version that was nightly then; of builds of the sample pings with a regression.
RELEASES = {55: 151, 27: 152}
CHANNELS = {"nightly": 0, "beta": 1, "release": 2}  # versions behind nightly
AFTER_RELEASE, MORE_AFTER_RELEASE = 6, 1.6
REGRESSED, REGRESSION = ("fog", "performance_page_total_content_page_load"), range(24, 43)
CONTROLS = {
    "os": ["Windows", "Darwin", "Linux", "*"],
    "aggregation_level": ["version", "build_id"],
    "process": ["parent"],
}
TOOLS = ["Looker", "STMO", "Bugzilla", "Glean Dictionary", "Searchfox"]
REFERRERS = ["dictionary.telemetry.mozilla.org", "bugzilla.mozilla.org", "sql.telemetry.mozilla.org", None, None, None]

JsonObject = dict[str, Any]
Key = tuple[str, str]


def write_sample_traffic(catalogue: Path, traffic: Path, until: datetime) -> None:
    """Write eight weeks of events up to `until` about the probes of a catalogue of events, one JSON object a line."""
    probes = [json.loads(line) for line in catalogue.read_text("utf-8").splitlines()]
    names = [(probe["product"], probe["probe"]) for probe in probes]
    with traffic.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in sample_traffic(names, until))


def sample_traffic(probes: Sequence[Key], until: datetime, seed: int = SEED) -> Iterator[JsonObject]:
    """Make the events of DAYS days up to `until`; popularity falls off as in Zipf's law, weekends are quiet."""
    dice = random.Random(seed)
    interest = _Interest(dice, probes)
    eagerness = [dice.random() ** 2 for _ in range(VISITORS)]
    today = until.date()
    yield from _releases(today, sorted({product for product, _ in probes}))
    for age in range(DAYS - 1, -1, -1):
        day = today - timedelta(days=age)
        interest.regressed = age in REGRESSION
        more = MORE_AFTER_RELEASE if any(0 <= released - age < AFTER_RELEASE for released in RELEASES) else 1
        for visitor in range(VISITORS):
            bot = visitor < BOTS
            if bot or dice.random() < eagerness[visitor] * (0.2 if day.weekday() >= 5 else 0.8) * more:
                begun = datetime(day.year, day.month, day.day, tzinfo=UTC)
                begun += timedelta(seconds=dice.triangular(0, 86_000, 54_000))
                session = _Session(dice, f"person-{visitor}", begun, bot)
                yield from (event for event in session.events(interest) if _is_past(event, until))
    # Somebody is there at this very moment.
    recent = list(_Session(dice, f"person-{BOTS}", until, bot=False).events(interest))
    late = datetime.fromisoformat(recent[-1]["occurred_at"]) - until
    for event in recent:
        yield event | {"occurred_at": (datetime.fromisoformat(event["occurred_at"]) - late).isoformat()}


def _is_past(event: JsonObject, until: datetime) -> bool:
    return datetime.fromisoformat(event["occurred_at"]) <= until


def _releases(today: date, products: Sequence[str]) -> Iterator[JsonObject]:
    for age, version in RELEASES.items():
        day = today - timedelta(days=age)
        for product in products:
            for channel, behind in CHANNELS.items():
                named = {"product": product, "channel": channel, "data": {"version": version - behind}}
                yield {"type": "release_published", "occurred_at": f"{day}T10:00:00+00:00"} | named


class _Interest:
    """Interest in some probes more than in others, in those of a team together, and in one that has regressed."""

    def __init__(self, dice: random.Random, probes: Sequence[Key]) -> None:
        self.regressed = False
        self._dice = dice
        named = sorted(set(probes))
        self._ranked = dice.sample(named, len(named) - len(named) // UNVIEWED)
        self._weights = list(accumulate(1 / rank for rank in range(1, len(self._ranked) + 1)))
        self._teams = defaultdict[Key, list[Key]](list)
        for key in self._ranked:
            self._teams[_team(key)].append(key)
        self._regressed = REGRESSED if REGRESSED in named else None

    def next(self, last: Key | None) -> Key:
        """Return the probe that somebody views after another one."""
        if self.regressed and self._regressed and self._dice.random() < 0.15:
            return self._regressed
        if last and self._dice.random() < 0.4:
            return self._dice.choice(self._teams.get(_team(last)) or [last])
        [key] = self._dice.choices(self._ranked, cum_weights=self._weights)
        return key


def _team(key: Key) -> Key:
    product, probe = key
    return product, probe.split("_")[0]


class _Session:
    """A visitor's session that begins at an instant."""

    def __init__(self, dice: random.Random, visitor: str, begun: datetime, bot: bool) -> None:
        self._dice, self._visitor, self._clock, self._bot = dice, visitor, begun, bot

    def events(self, interest: _Interest) -> Iterator[JsonObject]:
        """Make its events: somebody comes, views probes, and maybe leaves for another tool."""
        dice, key = self._dice, interest.next(None)
        referrer = dice.choice(REFERRERS)
        yield self._event("page_viewed", {"page": "/"} | ({"referrer": referrer} if referrer else {}), product=key[0])
        for _ in range(dice.randint(20, 40) if self._bot else dice.randint(1, 6)):
            yield from self._views(*key)
            key = interest.next(key)
        if not self._bot and dice.random() < 0.35:
            yield self._event("link_followed", {"tool": dice.choice(TOOLS)}, product=key[0])

    def _views(self, product: str, probe: str) -> Iterator[JsonObject]:
        dice = self._dice
        channel = "nightly" if dice.random() < 0.8 else dice.choice(("beta", "release"))
        named = {"product": product, "channel": channel}
        if not self._bot and dice.random() < 0.5:
            yield self._event(
                "probe_searched", {"query": probe.split("_")[0], "results": dice.randint(1, 40)}, product=product
            )
        yield self._event("page_viewed", {"page": f"/{product}/probe/{probe}/explore"}, **named)
        yield self._event("probe_viewed", {"found": dice.random() < 0.8}, **named, probe=probe)
        if not self._bot and dice.random() < 0.3:
            control = dice.choice(sorted(CONTROLS))
            yield self._event("control_changed", {"control": control, "value": dice.choice(CONTROLS[control])}, **named)

    def _event(self, kind: str, data: JsonObject, **more: str) -> JsonObject:
        self._clock += timedelta(seconds=self._dice.uniform(1, 5) if self._bot else self._dice.expovariate(1 / 60))
        data = data | ({"bot": True} if self._bot else {})
        return {"type": kind, "occurred_at": self._clock.isoformat(), "visitor": self._visitor, **more, "data": data}
