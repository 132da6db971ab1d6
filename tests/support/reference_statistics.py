"""The statistics of GLAM by brute force over raw pings, in exact arithmetic: slow, plain, sharing no code with
builder/. Each function is one sentence of the specification."""

import json
import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from itertools import accumulate, product
from typing import Any

PERCENTS = ("0.1", "1", "5", "25", "50", "75", "95", "99", "99.9")
LABELED = ("labeled_counter", "labeled_boolean")
BOOLEANS = ("boolean", "labeled_boolean")


@dataclass(frozen=True)
class Ping:
    """One raw ping, and what it sends: by metric type, the value of the one probe of the type.

    A number or truth value; pairs of label, or of bucket, and value; of labels that have pairs, those within pairs.
    """

    client_id: str | None
    submitted: datetime
    os: str | None = "Linux"
    app_build: str = "20261101093000"
    app_channel: str = "nightly"
    display_version: str | None = "150.0a1"
    isp: str | None = None
    sample_id: int = 50
    ping_type: str = "metrics"
    sent: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "firefox_desktop"


@dataclass(frozen=True)
class Question:
    """The parameters of a build. `buckets`: kind, smallest, largest and number of a custom distribution's buckets."""

    metric_type: str
    run_date: date
    channel: str = "nightly"
    latest_version: int | None = 150
    more_clients_than: int = 0
    more_users_than: int = 0
    sampled_by_clients: bool = False
    product: str = "fog"
    buckets: tuple[str, int, int, int] | None = None
    declared_labels: bool = False
    sampled: bool = False
    geckoview: Mapping[str, int] | None = None  # where the build's hour has the version

    @property
    def is_distribution(self) -> bool:
        return self.declared_labels or self.metric_type.endswith("distribution")


@dataclass(frozen=True)
class Row:
    """A row of the result, without its identity."""

    metric_type: str
    total_users: int
    total_sample: int
    histogram: str
    percentiles: str
    non_norm_histogram: str
    non_norm_percentiles: str


Identity = tuple[int, str, str, str, str, str]  # version, ping_type, os, build, metric_key, client_agg_type
Combination = tuple[int, str, str, str, str]
Rows = dict[Identity, Row]


@dataclass
class Client:
    """A client's row after step 1: client, ping type, system, version, build hour, metric key."""

    client_id: str
    ping_type: str
    os: str | None
    version: int
    build: str
    key: str
    buckets: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, float | None] = field(default_factory=dict)
    state: str = ""

    def weight(self, question: Question) -> int:
        return 10 if question.sampled and self.os == "Windows" and self.version >= 119 else 1

    def combinations(self) -> Iterable[Combination]:
        for ping_type, os, build in product((self.ping_type, "*"), (self.os, "*"), (self.build, "*")):
            if os is not None:
                yield (self.version, ping_type, os, build, self.key)


def version_of(ping: Ping, question: Question) -> int | None:
    """Return the version: none where the build's hour should tell it and does not."""
    if question.geckoview is not None:
        return question.geckoview.get(hour_of(ping, question))
    found = re.match(r"(\d+)(\.|$)", ping.display_version or "")
    return int(found[1]) if found else 0


def build_of(ping: Ping, product: str) -> datetime | None:
    """Return the hour of the build."""
    text = ping.app_build
    if not text.isdigit():
        return None
    try:
        if product == "fog":
            return datetime.strptime(text, "%Y%m%d%H%M%S").replace(minute=0, second=0) if len(text) == 14 else None
        if len(text) == 8:
            year, day, hour, minute = 2018 + int(text[0]), int(text[1:4]), int(text[4:6]), int(text[6:])
            found = datetime(year, 1, 1, hour, minute) + timedelta(days=day - 1)
            return found.replace(minute=0) if found.year == year else None
        return datetime(2014, 12, 28) + timedelta(hours=int(text) // 8 % 2**17) if len(text) == 10 else None
    except ValueError:
        return None


def hour_of(ping: Ping, question: Question) -> str:
    build = build_of(ping, question.product)
    return build.strftime("%Y%m%d%H") if build else ""


def system_of(ping: Ping) -> str | None:
    """Return the system: none for one that is named as the roll-up, without NUL, which PostgreSQL does not store."""
    system = None if ping.os is None else ping.os.replace("\0", "")
    return None if system == "*" else system


def metric_key(*labels: str) -> str:
    outer, *inner = labels
    whole = outer + "".join(f"[{label}]" for label in inner)
    return whole.replace("\\x00", "").replace("\0", "")[:200]


def is_read(ping: Ping, question: Question, latest: int) -> bool:
    build, version = build_of(ping, question.product), version_of(ping, question)
    if ping.client_id is None or (ping.isp or "").lower() == "browserstack" or build is None or version is None:
        return False
    if not is_of_channel(ping, question) or not latest - 2 <= version <= latest:
        return False
    if question.sampled and ping.os is None:
        return False
    sampled = question.sampled and ping.os == "Windows" and version >= 119
    if sampled and ping.sample_id >= 10 and not question.sampled_by_clients:
        return False
    midnight = datetime.combine(question.run_date, time())
    if not midnight - timedelta(days=365) < build < midnight + timedelta(days=3):
        return False
    return question.run_date - timedelta(days=365) <= ping.submitted.date() <= question.run_date


def is_of_channel(ping: Ping, question: Question) -> bool:
    """Return whether the ping is of the channel: Fenix has an app for each, whatever the ping says."""
    return question.product == "fenix" or ping.app_channel == question.channel


def latest_version(pings: Iterable[Ping], question: Question) -> int | None:
    clients = defaultdict(set)
    for ping in pings:
        recent = question.run_date - timedelta(days=28) < ping.submitted.date() <= question.run_date
        if recent and ping.client_id and is_of_channel(ping, question) and (ping.isp or "").lower() != "browserstack":
            version = version_of(ping, question)
            if version is not None:
                clients[version].add(ping.client_id)
    return max((version for version, seen in clients.items() if len(seen) > 5), default=None)


def plausible(number: int) -> bool:
    return 0 <= number <= 2**40


def scalars_sent(day: list[Ping], question: Question) -> dict[str, tuple[list[Any], int]]:
    """Return a day's values by metric key, and their count: without a label, that of all pings."""
    values: dict[str, list[Any]] = defaultdict(list)
    for ping in day:
        sent = ping.sent.get(question.metric_type)
        if question.metric_type == "dual_labeled_counter":
            for outer, inner in sent or ():
                for label, value in inner:
                    values[metric_key(outer, label)].append(value)
        elif question.metric_type in LABELED:
            for label, value in sent or ():
                values[metric_key(label)].append(value)
        elif sent is not None:
            values[""].append(sent)
    labeled = "labeled" in question.metric_type
    return {key: (own, len(own) if labeled else len(day)) for key, own in values.items()}


def buckets_sent(day: list[Ping], question: Question) -> dict[str, dict[str, int]]:
    """Return the sums of a day's buckets by metric key."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for ping in day:
        sent = ping.sent.get(question.metric_type) or ()
        if question.declared_labels:
            sent = [("", [(metric_key(label), value) for label, value in sent])]
        elif not question.metric_type.startswith("labeled"):
            sent = [("", sent)]
        for label, values in sent:
            for bucket, value in values:
                if plausible(value):
                    sums[metric_key(label)][bucket] += value
    return sums


def client_rows(pings: Iterable[Ping], question: Question) -> list[Client]:
    """Return the clients' rows by step 1: a day at a time, then over the window."""
    days = defaultdict(list)
    for ping in pings:
        hour, version = hour_of(ping, question), version_of(ping, question)
        about = (ping.client_id, ping.ping_type, system_of(ping), version, hour)
        days[about, ping.submitted.date(), ping.app_build].append(ping)
    windows: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for (about, _, _), day in days.items():
        sent = buckets_sent(day, question) if question.is_distribution else scalars_sent(day, question)
        for key, values in sent.items():
            windows[*about, key].append(values)
    return [with_window(Client(*about), window, question) for about, window in windows.items()]


def with_window(client: Client, window: list[Any], question: Question) -> Client:
    if question.is_distribution:
        return with_buckets(client, window)
    return with_state(client, window) if question.metric_type in BOOLEANS else with_scalars(client, window)


def with_buckets(client: Client, window: list[dict[str, int]]) -> Client:
    for sums in window:
        for bucket, value in sums.items():
            if plausible(value):
                client.buckets[bucket] = client.buckets.get(bucket, 0) + value
    return client


def with_state(client: Client, window: list[tuple[list[bool], int]]) -> Client:
    """Return the client with its state by step 4."""
    answers = {value for values, _ in window for value in values}
    client.state = "sometimes" if len(answers) == 2 else "always" if True in answers else "never"
    return client


def with_scalars(client: Client, window: list[tuple[list[int], int]]) -> Client:
    tops = [max(values) for values, _ in window if plausible(max(values))]
    bottoms = [min(values) for values, _ in window if plausible(min(values))]
    sums = [sum(values) for values, _ in window if plausible(sum(values))]
    count = sum(count for _, count in window)
    client.scalars = {
        "max": max(tops, default=None),
        "min": min(bottoms, default=None),
        "sum": sum(sums) if sums else None,
        "count": count,
        "avg": sum(sums) / count if sums else None,
    }
    return client


def large_builds(pings: Iterable[Ping], question: Question) -> set[str]:
    clients = defaultdict(set)
    for ping in pings:
        clients[hour_of(ping, question)].add(ping.client_id)
    return {build for build, seen in clients.items() if len(seen) > question.more_clients_than}


def round_away(number: Fraction, decimals: int = 0) -> Fraction:
    scaled = number * 10**decimals
    return Fraction(math.floor(scaled + Fraction(1, 2)), 10**decimals)


@cache
def number_of(key: str) -> Fraction:
    return Fraction(key)


def units(value: Fraction) -> int:
    """Return ten-thousandths, rounded half away from zero."""
    return (2 * 10_000 * value.numerator + value.denominator) // (2 * value.denominator)


def as_json(entries: Iterable[tuple[str, int]]) -> str:
    """Return the JSON object of values in ten-thousandths."""

    def number(value: int) -> str:
        whole, rest = divmod(value, 10_000)
        return f"{whole}.{rest:04d}".rstrip("0") if rest else str(whole)

    return "{" + ",".join(f"{json.dumps(key)}:{number(value)}" for key, value in entries) + "}"


def percentiles(entries: list[tuple[str, int]]) -> str:
    """Return the percentiles by step 5, of the histogram as rounded."""
    numbers = sorted((number_of(key), value) for key, value in entries)
    reached = list(accumulate(value for _, value in numbers))
    found = []
    for percent in PERCENTS if numbers else ():
        wanted = number_of(percent) / 100 * reached[-1]
        at_least = (key for (key, _), total in zip(numbers, reached, strict=True) if reached[-1] and total >= wanted)
        found.append((percent, units(next(at_least, numbers[-1][0]))))
    return as_json(found)


def smoothed(values: Mapping[str, Fraction], buckets: list[str], users: int) -> list[tuple[str, int]]:
    """Return the filled and smoothed histogram, as rounded."""
    empty = units(Fraction(1, len(buckets) * (users + 1))) if buckets else 0
    filled = {
        bucket: units(Fraction(value * len(buckets) + 1) / (len(buckets) * (users + 1)))
        for bucket, value in values.items()
        if bucket in set(buckets)
    }
    return [(bucket, filled.get(bucket, empty)) for bucket in dict.fromkeys(buckets)]


def timing_buckets(largest: int) -> list[str]:
    growth = 2 ** (1 / 8)
    bounds, exponent = {0}, 0
    while growth**exponent <= largest + 1:
        bounds.add(math.floor(growth**exponent))
        exponent += 1
    return [str(bound) for bound in sorted(bounds) if bound <= largest]


def exponential_buckets(smallest: int, largest: int, number: int) -> list[str]:
    bounds = [0, smallest or 1]
    for i in range(2, min(number, largest, 10_000)):
        c = bounds[-1]
        x = math.floor(math.exp(math.log(c) + (math.log(largest) - math.log(c)) / (number - i)) + 0.5)
        bounds.append(x if x > c else c + 1)
    return [str(bound) for bound in bounds]


def linear_buckets(smallest: int, largest: int, number: int) -> list[str]:
    steps = range(1, min(number - 1, largest, 10_000) + 1)
    exact = [Fraction(max(1, smallest) * (number - 1 - i) + largest * (i - 1), number - 2) for i in steps]
    return ["0", *(str(int(round_away(bound))) for bound in exact)]


def memory_buckets(largest: int) -> list[str]:
    growth = 2 ** (1 / 16)
    bounds = {0, *(math.floor(growth**i) for i in range(16 * 45))}
    return [str(bound) for bound in sorted(bounds) if bound <= largest]


def bucket_list(clients: Iterable[Client], question: Question) -> list[str]:
    """Return the bucket list by step 2, 2, from all keys that were sent."""
    seen = {bucket for client in clients for bucket in client.buckets}
    if question.declared_labels:
        return sorted(seen)
    if question.buckets:
        kind, *numbers = question.buckets
        return {"exponential": exponential_buckets, "linear": linear_buckets}[kind](*numbers)
    largest = max((int(bucket) for bucket in seen if bucket.isdigit()), default=-1)
    return timing_buckets(largest) if "timing" in question.metric_type else memory_buckets(largest)


def total_samples(clients: Iterable[tuple[Client, int]], question: Question) -> dict[Combination, int]:
    """Return total_sample over all ping types; times 10 on release where the group has Windows clients."""
    sums: dict[Combination, int] = defaultdict(int)
    with_windows = set()
    for client, samples in clients:
        for version, _, os, build, key in client.combinations():
            for ping_type in ("*", "metrics", "baseline"):
                # Each group comes up once for the client's ping type and once for all of them.
                sums[version, ping_type, os, build, key] += samples
                if question.sampled and client.os == "Windows":
                    with_windows.add((version, ping_type, os, build, key))
    return {group: total // 2 * (10 if group in with_windows else 1) for group, total in sums.items()}


def distribution_rows(clients: list[Client], large: set[str], question: Question) -> Rows:
    """Return the rows of a distribution by step 2."""
    clients = [client for client in clients if client.buckets]
    buckets = bucket_list(clients, question)
    shares: dict[Combination, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    counts: dict[Combination, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for client in clients:
        total = sum(client.buckets.values())
        for combination in client.combinations():
            for bucket, value in client.buckets.items():
                weighted = client.weight(question) * value
                shares[combination][bucket] += Fraction(weighted, total) if total else 0
                counts[combination][bucket] += value
    samples = total_samples([(client, sum(client.buckets.values())) for client in clients], question)
    kind = f"{question.metric_type}_{question.buckets[0]}" if question.buckets else question.metric_type
    rows: Rows = {}
    for combination, share in shares.items():
        users = int(round_away(sum(share.values(), Fraction(0))))
        if users > question.more_users_than and combination[3] in {"*", *large}:
            even = smoothed(share, buckets, users)
            raw = [(bucket, 10_000 * counts[combination].get(bucket, 0)) for bucket in buckets]
            percents = ["{}", "{}"] if question.declared_labels else [percentiles(even), percentiles(raw)]
            row = Row(kind, users, samples[combination], as_json(even), percents[0], as_json(raw), percents[1])
            rows[*combination, "summed_histogram"] = row
    return rows


def scalar_buckets(values: list[float]) -> list[str]:
    low, high = (math.log2(value) if value > 0 else 0.0 for value in (min(values), max(values)))
    return [f"{2 ** ((high - low) / 100 * i):.2f}" for i in range(100)] if low < high else []


def values_of(client: Client, question: Question) -> dict[str, Any]:
    """Return the values of a client that are put into buckets, by client_agg_type."""
    if question.metric_type in BOOLEANS:
        return {"": client.state}
    return {agg: value for agg, value in client.scalars.items() if value is not None}


def scalar_rows(clients: list[Client], large: set[str], question: Question) -> Rows:
    """Return the rows of scalars and booleans by steps 3 and 4."""
    clients = [client for client in clients if client.build in large]
    boolean = question.metric_type in BOOLEANS
    seen: dict[str, list[Any]] = defaultdict(list)
    for client in clients:
        seen[client.key] += values_of(client, question).values()
    named = ["always", "never", "sometimes"]
    buckets = {key: named if boolean else scalar_buckets(values) for key, values in seen.items()}
    members: dict[Identity, dict[str | None, set[str]]] = defaultdict(lambda: defaultdict(set))
    for client in clients:
        for combination, (agg, value) in product(client.combinations(), values_of(client, question).items()):
            found = value
            if not boolean:
                at_or_below = bisect_right(buckets[client.key], value, key=float)
                found = buckets[client.key][at_or_below - 1] if at_or_below else None
            members[*combination, agg][found].add(client.client_id)
    counts = [(client, 0 if boolean else int(client.scalars["count"] or 0)) for client in clients]
    samples = total_samples(counts, question)
    rows: Rows = {}
    for (version, ping_type, os, build, key, agg), by_bucket in members.items():
        counted = sum(len(ids) for ids in by_bucket.values())
        on_windows = members.get((version, ping_type, "Windows", build, key, agg), {})
        windows = 10 * sum(len(ids) for ids in on_windows.values())
        users: int | Fraction = counted
        if question.sampled and version >= 119:
            adjusted = {"Windows": Fraction(windows), "*": counted + Fraction(9, 10) * windows}
            users = adjusted.get(os, counted)
        if users > question.more_users_than:
            known = {b: Fraction(len(ids)) for b, ids in by_bucket.items() if b is not None}
            even = smoothed(known, buckets[key], counted)
            sampled = samples[version, ping_type, os, build, key]
            histogram, percents = as_json(even), "{}" if boolean else percentiles(even)
            row = Row(question.metric_type, int(users), sampled, histogram, percents, histogram, percents)
            rows[version, ping_type, os, build, key, agg] = row
    return rows


def reference_rows(pings: Iterable[Ping], question: Question) -> Rows:
    """Return all rows of the probe."""
    everything = list(pings)
    latest = question.latest_version
    if latest is None:
        latest = latest_version(everything, question)
    if latest is None:
        return {}
    read = [ping for ping in everything if is_read(ping, question, latest)]
    make = distribution_rows if question.is_distribution else scalar_rows
    return make(client_rows(read, question), large_builds(read, question), question)
