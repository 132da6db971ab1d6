"""Reference of the projections, in plain Python over the events; shares no code with the service."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

JsonObject = dict[str, Any]
APP_TYPES = {"page_viewed", "probe_searched", "probe_viewed", "control_changed", "link_followed"}
# Referrers of all shapes and their origin: a tool, else the host; None for the app itself and for anything else.
ORIGINS: dict[str | None, str | None] = {
    None: None,
    "": None,
    "https://mozilla.cloud.looker.com/dashboards/1?x=a@b#c": "Looker",
    "looker.com": "Looker",
    "looker.com:443": "Looker",
    "LOOKER.COM/looks/1": "Looker",
    "https://WWW.Looker.com./": "Looker",
    "https://not-looker.com/": "not-looker.com",
    "https://looker.com.evil.example/": "looker.com.evil.example",
    "http://someone:secret@sql.telemetry.mozilla.org:8080": "STMO",
    "//sql.telemetry.mozilla.org/queries/1": "STMO",
    "https://www.google.com/search?q=glam": "Google",
    "https://mail.google.com/": "Gmail",
    "https://dictionary.telemetry.mozilla.org": "Glean Dictionary",
    "https://gist.github.com?a": "GitHub",
    "android-app://com.slack/": "com.slack",
    "www.example.org": "example.org",
    "localhost:8000/x": "localhost",
    "10.0.0.1": "10.0.0.1",
    "http://münchen.example/": "münchen.example",
    "https://glam.telemetry.mozilla.org/fog": None,
    "GLAM.telemetry.mozilla.org:443": None,
    "www.glam.telemetry.mozilla.org": None,
    "https://other.glam.telemetry.mozilla.org/": "Telemetry portal",
    "/fog/probe/gc_ms": None,
    "about:blank": None,
    "looker.com:": None,
    "javascript:alert(1)": None,
    "hello world": None,
    "(direct)": None,
    "https://": None,
    "https://:443/": None,
    "?": None,
    "@": None,
    " ": None,
    "www.": None,
    "...": None,
    "[::1]:80": None,
}


def moment(item: JsonObject) -> datetime:
    return datetime.fromisoformat(item["occurred_at"])


@dataclass
class ProbeDay:
    found: int = 0
    missing: int = 0
    visitors: set[str] = field(default_factory=set)


def popularity(events: Iterable[JsonObject]) -> dict[tuple[Any, ...], ProbeDay]:
    """Count views by product, UTC day, probe, channel, bot."""
    days: dict[tuple[Any, ...], ProbeDay] = defaultdict(ProbeDay)
    for item in unique(events):
        if item["type"] == "probe_viewed":
            day = moment(item).date()
            bot = bool(item["data"].get("bot"))
            count(days[item["product"], day, item["probe"], item.get("channel") or "", bot], item)
    return dict(days)


def popularity_buckets(events: Iterable[JsonObject], length: int) -> dict[tuple[Any, ...], ProbeDay]:
    """Count views by product, first day, probe, channel, bot, in buckets of days; without visitors.

    Only buckets that ended before the week of the latest day count.
    """
    days = popularity(events)
    buckets: dict[tuple[Any, ...], ProbeDay] = defaultdict(ProbeDay)
    week = max((day - timedelta(days=day.weekday()) for _product, day, *_others in days), default=date.max)
    for (product, day, *others), views in days.items():
        first = day - timedelta(days=(day.toordinal() - date(2000, 1, 3).toordinal()) % length)
        if first + timedelta(days=length) <= week:
            entry = buckets[product, first, *others]
            entry.found += views.found
            entry.missing += views.missing
    return dict(buckets)


def popularity_returns(events: Iterable[JsonObject]) -> dict[tuple[Any, ...], int]:
    """Count returning visitors by product, probe, bot, channel ('*': any), day and their day before (None: no day)."""
    visitor_days: dict[tuple[Any, ...], set[date]] = defaultdict(set)
    for (product, day, probe, channel, bot), views in popularity(events).items():
        for visitor in views.visitors:
            for by in {"*", channel or "*"}:
                visitor_days[product, probe, bot, by, visitor].add(day)
    returns: Counter[tuple[Any, ...]] = Counter()
    for (*series, _visitor), days in visitor_days.items():
        for before, day in zip([None, *sorted(days)], sorted(days), strict=False):
            returns[*series, day, before] += 1
    return dict(returns)


def timeseries(events: Iterable[JsonObject]) -> dict[tuple[Any, ...], ProbeDay]:
    """Count views by product, probe ('' for all together), UTC hour, channel, bot."""
    hours: dict[tuple[Any, ...], ProbeDay] = defaultdict(ProbeDay)
    for item in unique(events):
        if item["type"] == "probe_viewed":
            hour = moment(item).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            for probe in (item["probe"], ""):
                key = item["product"], probe, hour, item.get("channel") or "", bool(item["data"].get("bot"))
                count(hours[key], item)
    return dict(hours)


def count(entry: ProbeDay, item: JsonObject) -> None:
    """Add a view."""
    if item["data"]["found"]:
        entry.found += 1
    else:
        entry.missing += 1
    if item.get("visitor"):
        entry.visitors.add(item["visitor"])


def releases(events: Iterable[JsonObject]) -> dict[tuple[str, str, int], datetime]:
    """Return the time each version was first published, by product, channel and version; without what was retracted.

    Of each instant the latest word counts, and of two at the same time the retraction.
    """
    words: dict[tuple[str, str, int], dict[datetime, tuple[datetime, bool]]] = defaultdict(dict)
    for item in events:
        if item["type"] in ("release_published", "release_retracted"):
            key = item["product"], item["channel"], item["data"]["version"]
            instant = datetime.fromisoformat(item["data"].get("published_at") or item["occurred_at"])
            word = moment(item), item["type"] == "release_retracted"
            words[key][instant] = max(words[key].get(instant, word), word)
    standing = {
        key: [instant for instant, (_at, is_retracted) in said.items() if not is_retracted]
        for key, said in words.items()
    }
    return {key: min(instants) for key, instants in standing.items() if instants}


def build_costs(events: Iterable[JsonObject]) -> dict[tuple[str, str, str, date], tuple[datetime, int, float | None]]:
    """Return the end, bytes and seconds of the last build of each product, channel, probe and day."""
    last: dict[tuple[str, str, str, date], tuple[datetime, int, float | None]] = {}
    for item in unique(events):
        if item["type"] in ("build_succeeded", "build_found_no_data") and item["data"].get("bytes") is not None:
            key = item["product"], item["channel"], item["probe"], moment(item).date()
            cost = moment(item), item["data"]["bytes"], item["data"].get("seconds")
            last[key] = max(last.get(key, cost), cost, key=lambda one: (one[:2], -1 if one[2] is None else one[2]))
    return last


def build_revisions(events: Iterable[JsonObject]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return the last build of an hour and its revision, by product, channel and hour."""
    last: dict[tuple[str, str, str], tuple[str, str]] = {}
    for item in events:
        if item["type"] == "revision_published":
            build = item["data"]["build_id"], item["data"]["revision"]
            key = item["product"], item["channel"], build[0][:10]
            last[key] = max(last.get(key, build), build)
    return last


@dataclass(frozen=True)
class CatalogueEntry:
    metric_type: str | None
    definition: JsonObject | None
    details: JsonObject | None
    pings: tuple[str, ...]
    registered_at: datetime | None
    retired_at: datetime | None
    built_at: datetime | None


def catalogue(events: Iterable[JsonObject]) -> dict[tuple[str, str], CatalogueEntry]:
    """Return the catalogue by product and probe."""
    by_probe: dict[tuple[str, str], list[JsonObject]] = defaultdict(list)
    for item in unique(events):
        if item["type"] in ("probe_registered", "probe_retired", "probe_built"):
            by_probe[item["product"], item["probe"]].append(item)
    return {key: entry(own) for key, own in by_probe.items()}


# In the order of PostgreSQL's jsonb.
DEFINITION = ("labels", "range_max", "range_min", "bucket_count", "histogram_type")
DETAILS = ("link", "unit", "owners", "expires", "disabled", "time_unit", "description", "memory_unit")


def newest(registered: list[JsonObject], names: Iterable[str]) -> JsonObject | None:
    """Return these fields of the latest registration that has any, and of several at once the largest."""
    given = [
        (moment(item), {name: item["data"][name] for name in names if item["data"].get(name) is not None})
        for item in registered
    ]
    ranked = [(at, json.dumps(fields, ensure_ascii=False).encode(), fields) for at, fields in given if fields]
    return max(ranked, key=lambda each: each[:2])[2] if ranked else None


def entry(own: list[JsonObject]) -> CatalogueEntry:
    def times(kind: str) -> list[datetime]:
        return [moment(item) for item in own if item["type"] == kind]

    registered = [item for item in own if item["type"] == "probe_registered"]
    latest = max(registered, key=lambda item: (moment(item), item["data"]["type"]), default=None)
    return CatalogueEntry(
        metric_type=latest["data"]["type"] if latest else None,
        definition=newest(registered, DEFINITION),
        details=newest(registered, DETAILS),
        pings=kept_names({item["data"].get("ping", "metrics") for item in registered}),
        registered_at=min(times("probe_registered"), default=None),
        retired_at=max(times("probe_retired"), default=None),
        built_at=max(times("probe_built"), default=None),
    )


MOST_NAMES = 100


def name_hash(name: str) -> float:
    """Return where a name is among all names, from 0 to 1."""
    return (int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8], 16) + 1) / 2**32


def kept_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are kept, sorted: those with the least hashes, and one more than are told."""
    return tuple(sorted(sorted(names, key=name_hash)[: MOST_NAMES + 1]))


def names_beyond(kept: Collection[str]) -> int:
    """Estimate how many names there are beyond those that are told."""
    if len(kept) <= MOST_NAMES:
        return 0
    return max(1, round(MOST_NAMES / max(map(name_hash, kept))) - MOST_NAMES)


@dataclass(frozen=True)
class Session:
    visitor: str
    started_at: datetime
    ended_at: datetime
    events: int
    bot: bool
    products: tuple[str, ...]
    probes: tuple[str, ...]
    controls: tuple[str, ...]
    tools_left: tuple[str, ...]
    first_page: str | None
    last_page: str | None
    referrer: str | None
    came_from: str | None
    role: str


def journey_events(events: Iterable[JsonObject]) -> dict[tuple[str, datetime, str], tuple[str | None, ...]]:
    """Return the events of sessions by visitor, time and event id: kind and name of the step, product."""
    return {
        (item["visitor"], moment(item), item["event_id"]): (*step(item), item.get("product"))
        for item in unique(events)
        if is_of_a_session(item)
    }


def step(item: JsonObject) -> tuple[str | None, str | None]:
    """Return the kind and name of the journey's step that an event is, or None for both."""
    steps = {
        "page_viewed": ("page", item["data"].get("page")),
        "probe_viewed": ("probe", item.get("probe")),
        "link_followed": ("tool", item["data"].get("tool")),
    }
    return steps.get(item["type"], (None, None))


def is_of_a_session(item: JsonObject) -> bool:
    return bool(item.get("visitor")) and (item["type"] in APP_TYPES or item["type"].startswith("x_"))


def sessions(events: Iterable[JsonObject], gap: timedelta = timedelta(minutes=30)) -> list[Session]:
    """Split each visitor's events into sessions, at pauses of at least `gap`."""
    by_visitor: dict[str, list[JsonObject]] = defaultdict(list)
    for item in unique(events):
        if is_of_a_session(item):
            by_visitor[item["visitor"]].append(item)
    found = []
    for visitor, own in by_visitor.items():
        own.sort(key=lambda item: (moment(item), item["event_id"]))
        run: list[JsonObject] = []
        for item in own:
            if run and moment(item) - moment(run[-1]) >= gap:
                found.append(summary(visitor, run))
                run = []
            run.append(item)
        found.append(summary(visitor, run))
    return sorted(found, key=lambda session: (session.visitor, session.started_at))


def session_counts(found: Iterable[Session]) -> dict[tuple[Any, ...], int]:
    """Count the sessions that began by hour, product ('' for all together), bot and role."""
    return Counter(
        (session.started_at.replace(minute=0, second=0, microsecond=0), product, session.bot, session.role)
        for session in found
        for product in ("", *session.products)
    )


def summary(visitor: str, run: list[JsonObject]) -> Session:
    pages = [item for item in run if item["type"] == "page_viewed"]

    def names(kind: str, get: Callable[[JsonObject], str]) -> tuple[str, ...]:
        return kept_names({get(item) for item in run if item["type"] == kind})

    referrer = pages[0]["data"].get("referrer") if pages else None
    tools_left = names("link_followed", lambda item: item["data"]["tool"])
    return Session(
        visitor=visitor,
        started_at=moment(run[0]),
        ended_at=moment(run[-1]),
        events=len(run),
        bot=any(item["data"].get("bot") is True for item in run),
        products=kept_names({item["product"] for item in run if item.get("product")}),
        probes=names("probe_viewed", lambda item: item["probe"]),
        controls=names("control_changed", lambda item: item["data"]["control"]),
        tools_left=tools_left,
        first_page=pages[0]["data"].get("page") if pages else None,
        last_page=pages[-1]["data"].get("page") if pages else None,
        referrer=referrer,
        came_from=ORIGINS[referrer],
        role=ROLES[ORIGINS[referrer] is not None, bool(tools_left)],
    )


# Keys: the session came from a known origin; it left for another tool.
ROLES = {
    (False, False): "whole",
    (False, True): "starting_point",
    (True, False): "endpoint",
    (True, True): "in_between",
}


def unique(events: Iterable[JsonObject]) -> list[JsonObject]:
    """Return the first event of each id."""
    return list({item["event_id"]: item for item in reversed(list(events))}.values())
