"""The statistics of GLAM by brute force over raw pings, in exact arithmetic: slow, plain, sharing no code with
builder/. Each function is one sentence of the specification."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import accumulate, product

PERCENTS = ("0.1", "1", "5", "25", "50", "75", "95", "99", "99.9")


@dataclass(frozen=True)
class Ping:
    """One raw ping, and the value of the one probe that is looked at (None where the ping has none)."""

    client_id: str | None
    submitted: datetime
    os: str | None = "Linux"
    app_build: str = "20261101093000"
    app_channel: str = "nightly"
    display_version: str | None = "150.0a1"
    isp: str | None = None
    sample_id: int = 50
    ping_type: str = "metrics"
    value: int | None = None
    values: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Question:
    """What is asked of the pings."""

    metric_type: str
    run_date: date
    channel: str = "nightly"
    latest_version: int | None = 150
    more_clients_than: int = 0
    more_users_than: int = 0
    sampled_by_clients: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the result, without what is the same in all of them."""

    total_users: int
    total_sample: int
    histogram: str
    percentiles: str
    non_norm_histogram: str
    non_norm_percentiles: str


Identity = tuple[int, str, str, str, str]  # version, ping_type, os, build, client_agg_type
Rows = dict[Identity, Row]


@dataclass
class Client:
    """A client's row after step 1: client, ping type, system, version and build hour."""

    client_id: str
    ping_type: str
    os: str | None
    version: int
    build: str
    buckets: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, float | None] = field(default_factory=dict)

    def weight(self, channel: str) -> int:
        return 10 if channel == "release" and self.os == "Windows" and self.version >= 119 else 1

    def combinations(self) -> Iterable[tuple[int, str, str, str]]:
        for ping_type, os, build in product((self.ping_type, "*"), (self.os, "*"), (self.build, "*")):
            if os is not None:
                yield (self.version, ping_type, os, build)


def version_of(ping: Ping) -> int:
    found = re.match(r"(\d+)(\.|$)", ping.display_version or "")
    return int(found[1]) if found else 0


def build_of(ping: Ping) -> datetime | None:
    try:
        return datetime.strptime(ping.app_build, "%Y%m%d%H%M%S") if len(ping.app_build) == 14 else None
    except ValueError:
        return None


def is_read(ping: Ping, question: Question, latest: int) -> bool:
    build, version = build_of(ping), version_of(ping)
    if ping.client_id is None or (ping.isp or "").lower() == "browserstack" or build is None:
        return False
    if ping.app_channel != question.channel or not latest - 2 <= version <= latest:
        return False
    sampled = question.channel == "release" and ping.os == "Windows" and version >= 119
    if sampled and ping.sample_id >= 10 and not question.sampled_by_clients:
        return False
    first, last = question.run_date - timedelta(days=365), question.run_date + timedelta(days=3)
    return first <= build.date() <= last and first <= ping.submitted.date() <= question.run_date


def latest_version(pings: Iterable[Ping], question: Question) -> int | None:
    clients = defaultdict(set)
    for ping in pings:
        recent = question.run_date - timedelta(days=28) < ping.submitted.date() <= question.run_date
        if (
            recent
            and ping.client_id
            and ping.app_channel == question.channel
            and (ping.isp or "").lower() != "browserstack"
        ):
            clients[version_of(ping)].add(ping.client_id)
    return max((version for version, seen in clients.items() if len(seen) > 5), default=None)


def plausible(number: int) -> bool:
    return 0 <= number <= 2**40


def client_rows(pings: Iterable[Ping]) -> list[Client]:
    """Step 1: a day at a time, then over the window."""
    days = defaultdict(list)
    for ping in pings:
        days[
            str(ping.client_id), ping.ping_type, ping.submitted.date(), ping.os, version_of(ping), ping.app_build
        ].append(ping)
    windows = defaultdict(list)
    for (client, ping_type, _, os, version, build), day in days.items():
        windows[client, ping_type, os, version, build[:10]].append(day)
    return [with_aggregates(Client(*key), window) for key, window in windows.items()]


def with_aggregates(client: Client, window: list[list[Ping]]) -> Client:
    tops, bottoms, sums, counts = [], [], [], []
    for day in window:
        buckets: dict[str, int] = defaultdict(int)
        for ping in day:
            for key, value in ping.values:
                buckets[key] += value
        for key, value in buckets.items():
            if plausible(value):
                client.buckets[key] = client.buckets.get(key, 0) + value
        values = [ping.value for ping in day if ping.value is not None]
        if values:
            tops.append(max(values))
            bottoms.append(min(values))
            sums.append(sum(values))
            counts.append(len(day))
    tops, bottoms, sums = ([n for n in numbers if plausible(n)] for numbers in (tops, bottoms, sums))
    client.scalars = {
        "max": max(tops, default=None),
        "min": min(bottoms, default=None),
        "sum": sum(sums) if sums else None,
        "count": sum(counts) if counts else None,
        "avg": sum(sums) / sum(counts) if sums and counts else None,
    }
    return client


def large_builds(pings: Iterable[Ping], question: Question) -> set[str]:
    clients = defaultdict(set)
    for ping in pings:
        clients[ping.app_build[:10]].add(ping.client_id)
    return {build for build, seen in clients.items() if len(seen) > question.more_clients_than}


def round_away(number: Fraction, decimals: int = 0) -> Fraction:
    scaled = number * 10**decimals
    return Fraction(math.floor(scaled + Fraction(1, 2)), 10**decimals)


def as_json(entries: Iterable[tuple[str, Fraction]]) -> str:
    def number(value: Fraction) -> str:
        whole, rest = divmod(round_away(value, 4) * 10000, 10000)
        return f"{whole}.{int(rest):04d}".rstrip("0") if rest else str(whole)

    return "{" + ",".join(f'"{key}":{number(value)}' for key, value in entries) + "}"


def percentiles(entries: list[tuple[str, Fraction]]) -> str:
    """Step 5, from the histogram as rounded."""
    numbers = sorted((Fraction(key), round_away(value, 4)) for key, value in entries)
    reached = list(accumulate(value for _, value in numbers))
    found = []
    for percent in PERCENTS if numbers else ():
        share = [total / reached[-1] if reached[-1] else Fraction(0) for total in reached]
        at_least = [key for (key, _), part in zip(numbers, share, strict=True) if part >= Fraction(percent) / 100]
        found.append((percent, at_least[0] if at_least else numbers[-1][0]))
    return as_json(found)


def smoothed(values: dict[str, Fraction], buckets: list[str], users: int) -> list[tuple[str, Fraction]]:
    return [(b, (values.get(b, Fraction(0)) + Fraction(1, len(buckets))) / (users + 1)) for b in buckets]


def timing_buckets(largest: int) -> list[str]:
    growth = 2 ** (1 / 8)
    bounds, exponent = {0}, 0
    while growth**exponent <= largest + 1:
        bounds.add(math.floor(growth**exponent))
        exponent += 1
    return [str(bound) for bound in sorted(bounds) if bound <= largest]


def total_sample(clients: Iterable[tuple[Client, int]], question: Question, os: str, build: str, version: int) -> int:
    """Over all ping types; times 10 on release where the group has Windows clients."""
    group = [
        (client, samples)
        for client, samples in clients
        if client.version == version and os in ("*", client.os) and build in ("*", client.build)
    ]
    times = 10 if question.channel == "release" and any(client.os == "Windows" for client, _ in group) else 1
    return times * sum(samples for _, samples in group)


def distribution_rows(clients: list[Client], large: set[str], question: Question) -> Rows:
    """Step 2."""
    clients = [client for client in clients if client.buckets]
    keys = [int(key) for client in clients for key in client.buckets if key.isdigit()]
    buckets = timing_buckets(max(keys)) if keys else []
    shares: dict[tuple[int, str, str, str], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    counts: dict[tuple[int, str, str, str], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for client in clients:
        total = sum(client.buckets.values())
        for combination in client.combinations():
            for key, value in client.buckets.items():
                weighted = client.weight(question.channel) * value
                shares[combination][key] += Fraction(weighted, total) if total else 0
                counts[combination][key] += value
    samples = [(client, sum(client.buckets.values())) for client in clients]
    rows: Rows = {}
    for (version, ping_type, os, build), share in shares.items():
        users = int(round_away(sum(share.values(), Fraction(0))))
        if users > question.more_users_than and (build == "*" or build in large):
            even = smoothed(share, buckets, users)
            raw = [(b, counts[version, ping_type, os, build].get(b, Fraction(0))) for b in buckets]
            sampled = total_sample(samples, question, os, build, version)
            row = Row(users, sampled, as_json(even), percentiles(even), as_json(raw), percentiles(raw))
            rows[version, ping_type, os, build, "summed_histogram"] = row
    return rows


def scalar_buckets(values: list[float]) -> list[str]:
    low, high = (math.log2(value) if value > 0 else 0.0 for value in (min(values), max(values)))
    bounds = [f"{2 ** (low + (high - low) / 100 * i):.2f}" for i in range(100)] if low < high else []
    return sorted(set(bounds), key=float)


def scalar_rows(clients: list[Client], large: set[str], question: Question) -> Rows:
    """Step 3."""
    clients = [client for client in clients if client.build in large and client.scalars["count"]]
    values = [value for client in clients for value in client.scalars.values() if value is not None]
    buckets = scalar_buckets(values) if values else []
    members: dict[Identity, dict[str | None, set[str]]] = defaultdict(lambda: defaultdict(set))
    for client in clients:
        for combination, (agg, value) in product(client.combinations(), client.scalars.items()):
            if value is not None:
                bucket = max((b for b in buckets if float(b) <= value), key=float, default=None)
                members[*combination, agg][bucket].add(client.client_id)
    samples = [(client, int(client.scalars["count"] or 0)) for client in clients]
    rows: Rows = {}
    for (version, ping_type, os, build, agg), by_bucket in members.items():
        counted = sum(len(ids) for ids in by_bucket.values())
        windows = 10 * sum(len(ids) for ids in members.get((version, ping_type, "Windows", build, agg), {}).values())
        users: int | Fraction = counted
        if question.channel == "release" and version >= 119:
            adjusted = {"Windows": Fraction(windows), "*": counted + Fraction(9, 10) * windows}
            users = adjusted.get(os, counted)
        if users > question.more_users_than:
            known = {b: Fraction(len(ids)) for b, ids in by_bucket.items() if b is not None}
            even = smoothed(known, buckets, counted)
            sampled = total_sample(samples, question, os, build, version)
            histogram, percents = as_json(even), percentiles(even)
            row = Row(int(users), sampled, histogram, percents, histogram, percents)
            rows[version, ping_type, os, build, agg] = row
    return rows


def reference_rows(pings: Iterable[Ping], question: Question) -> Rows:
    """All rows of the probe."""
    everything = list(pings)
    latest = question.latest_version
    if latest is None:
        latest = latest_version(everything, question)
    if latest is None:
        return {}
    read = [ping for ping in everything if is_read(ping, question, latest)]
    make = distribution_rows if question.metric_type == "timing_distribution" else scalar_rows
    return make(client_rows(read), large_builds(read, question), question)
