"""GLAM's rules in plain Python, one function each, written from their description and from nothing of the builder.

Everything that can be is exact: counts are integers, shares are fractions.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import accumulate, product
from typing import Any, NamedTuple

LARGEST = 2**40
ALL = "*"
PERCENTILES = ("0.1", "1", "5", "25", "50", "75", "95", "99", "99.9")
SCALAR_BUCKETS = 100
SAMPLED_IDS = 10
SAMPLED_SINCE = 119
WINDOWS_WEIGHT = 10
FENIX_EPOCH = datetime(2014, 12, 28, tzinfo=UTC)
BOOLEANS = ("always", "never", "sometimes")
DATASETS = {
    "nightly": "org_mozilla_fenix",
    "beta": "org_mozilla_firefox_beta",
    "release": "org_mozilla_firefox",
}


@dataclass(frozen=True)
class Ping:
    """A raw ping; `sent` has the value of each metric type that it carries."""

    client_id: str | None
    submitted: datetime
    os: str | None = "Linux"
    app_build: str | None = "20261101093000"
    app_channel: str | None = "nightly"
    display_version: str | None = "150.0a1"
    isp: str | None = None
    sample_id: int = 50
    ping_type: str = "metrics"
    sent: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "firefox_desktop"


@dataclass(frozen=True)
class Question:
    """A probe that is asked for, and the settings that its rows depend on."""

    metric_type: str
    run_date: date
    channel: str = "nightly"
    latest_version: int | None = 150
    more_clients_than: int = 0
    more_users_than: int = 0
    buckets: tuple[str, int, int, int] | None = None
    declared_labels: bool = False
    sampled: bool = False
    sampled_by_clients: bool = False
    product: str = "fog"
    geckoview: Mapping[str, int] | None = None


class Row(NamedTuple):
    """Row of one combination, without what identifies it."""

    metric_type: str
    total_users: int
    total_sample: int
    histogram: str
    percentiles: str
    non_norm_histogram: str
    non_norm_percentiles: str


# version, ping type, system, build, metric key, client_agg_type
Identity = tuple[int, str, str, str, str, str]
Rows = dict[Identity, Row]


class Origin(NamedTuple):
    """Where a ping comes from: what its client is told apart by over the window."""

    client_id: str
    ping_type: str
    os: str | None
    version: int
    build_hour: str


class Group(NamedTuple):
    """A combination without its client_agg_type."""

    version: int
    ping_type: str
    os: str
    build_hour: str
    key: str


@dataclass
class Day:
    """What a client sent in a day: the pings of one origin and one build id."""

    pings: int = 0
    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


Days = Mapping[tuple[Origin, date, str], Day]


# -- step 0: which pings, of which version and build


def build_moment(product_name: str, app_build: str | None) -> datetime | None:
    """Return when a build was made, by its id; None for what is no id of the product."""
    if app_build is None or not (app_build.isascii() and app_build.isdigit()):
        return None
    if product_name == "fog":
        return desktop_build(app_build)
    return {8: fenix_build_of_8, 10: fenix_build_of_10}.get(len(app_build), lambda _: None)(app_build)


def desktop_build(app_build: str) -> datetime | None:
    """Return the hour of a build id of 14 digits that is a time."""
    if len(app_build) != 14:
        return None
    try:
        return datetime.strptime(app_build, "%Y%m%d%H%M%S").replace(minute=0, second=0, tzinfo=UTC)
    except ValueError:
        return None


def fenix_build_of_8(app_build: str) -> datetime | None:
    """Return the hour of year digit, day of the year, hour and minute."""
    year, day = 2018 + int(app_build[0]), int(app_build[1:4])
    hour, minute = int(app_build[4:6]), int(app_build[6:8])
    if hour > 23 or minute > 59 or day < 1:
        return None
    moment = datetime(year, 1, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)
    return moment if moment.year == year else None


def fenix_build_of_10(app_build: str) -> datetime:
    """Return the hour in the bits 3 to 19."""
    return FENIX_EPOCH + timedelta(hours=(int(app_build) >> 3) & (2**17 - 1))


def in_build_window(moment: datetime, run_date: date) -> bool:
    """Say whether a build is of the 365 days before a run or the 3 after it, without both ends."""
    midnight = datetime.combine(run_date, time(), tzinfo=UTC)
    return midnight - timedelta(days=365) < moment < midnight + timedelta(days=3)


def version_of(ping: Ping, question: Question) -> int | None:
    """Return the major version; None where Fenix nightly has none for the hour of the build."""
    if question.geckoview is not None:
        moment = build_moment(question.product, ping.app_build)
        return None if moment is None else question.geckoview.get(f"{moment:%Y%m%d%H}")
    major = (ping.display_version or "").split(".")[0]
    return int(major) if major.isascii() and major.isdigit() else 0


def is_of_the_channel(ping: Ping, question: Question) -> bool:
    """Say whether the ping's own words, or the app of Fenix, are the channel asked for."""
    if question.product == "fenix":
        return ping.dataset == DATASETS[question.channel]
    return ping.dataset == "firefox_desktop" and ping.app_channel == question.channel


def is_read(ping: Ping, question: Question) -> bool:
    """Say whether a ping has a client, is of no test farm and of the channel, and was sent in the year of the run."""
    days = (question.run_date - ping.submitted.date()).days
    return (
        ping.client_id is not None
        and (ping.isp or "").lower() != "browserstack"
        and is_of_the_channel(ping, question)
        and 0 <= days <= 365
    )


def is_sampled_version(question: Question, version: int) -> bool:
    """Say whether Windows clients of a version are sampled."""
    return question.sampled and version >= SAMPLED_SINCE


def is_sampled_windows(origin: Origin, question: Question) -> bool:
    """Say whether a client stands for ten."""
    return origin.os == "Windows" and is_sampled_version(question, origin.version)


def is_in_sample(ping: Ping, question: Question, version: int) -> bool:
    """Say whether a client is of the sample: a system that is NULL is neither Windows nor another, of any version."""
    if question.sampled and ping.os is None:
        return False
    if ping.os == "Windows" and is_sampled_version(question, version):
        return ping.sample_id < SAMPLED_IDS or question.sampled_by_clients
    return True


def latest_version(pings: Sequence[Ping], question: Question) -> int | None:
    """Return the largest version with more than 5 clients in the last 28 days, unless it is known."""
    if question.latest_version is not None:
        return question.latest_version
    clients: dict[int, set[str | None]] = defaultdict(set)
    for ping in pings:
        version = version_of(ping, question)
        if version is not None and is_read(ping, question) and (question.run_date - ping.submitted.date()).days < 28:
            clients[version].add(ping.client_id)
    return max((version for version, members in clients.items() if len(members) > 5), default=None)


def origin_of(ping: Ping, question: Question, latest: int) -> Origin | None:
    """Return where a ping comes from, or None for one that no row is about."""
    version, moment = version_of(ping, question), build_moment(question.product, ping.app_build)
    if ping.client_id is None or version is None or moment is None or not is_read(ping, question):
        return None
    counts = (
        latest - 2 <= version <= latest
        and in_build_window(moment, question.run_date)
        and is_in_sample(ping, question, version)
    )
    os = None if ping.os is None else ping.os.replace("\0", "")
    return Origin(ping.client_id, ping.ping_type, os, version, f"{moment:%Y%m%d%H}") if counts else None


# -- step 1: one row a client


def metric_key(label: str) -> str:
    """Return a label as rows have it."""
    return label.replace("\\x00", "").replace("\0", "")[:200]


def occurrences(ping: Ping, question: Question) -> Iterator[tuple[str, Any]]:
    """Yield what the ping sent of the probe, by metric key."""
    metric_type, sent = question.metric_type, ping.sent.get(question.metric_type)
    if sent is None:
        return
    if question.declared_labels:
        yield "", [(metric_key(label), value) for label, value in sent]
    elif metric_type == "dual_labeled_counter":
        for outer, inner in sent:
            yield from ((metric_key(f"{outer}[{label}]"), value) for label, value in inner)
    elif metric_type.startswith("labeled_"):
        yield from ((metric_key(label), value) for label, value in sent)
    else:
        yield "", sent


def days_of(pings: Iterable[Ping], question: Question, latest: int) -> dict[tuple[Origin, date, str], Day]:
    """Return what each client sent a day, by origin, day and build id."""
    days: dict[tuple[Origin, date, str], Day] = defaultdict(Day)
    for ping in pings:
        origin = origin_of(ping, question, latest)
        if origin is not None:
            day = days[origin, ping.submitted.date(), str(ping.app_build)]
            day.pings += 1
            for key, value in occurrences(ping, question):
                if value is not None:
                    day.values[key].append(value)
    return days


def is_counted(value: int | Fraction) -> bool:
    """Say whether a value is within the bounds of what counts."""
    return 0 <= value <= LARGEST


def bucket_sums(histograms: Iterable[Iterable[tuple[str, int]]]) -> Counter[str]:
    """Return the sums of a day: an entry counts within the bounds, and so does the sum of its bucket."""
    sums: Counter[str] = Counter()
    for histogram in histograms:
        for bucket, value in histogram:
            if is_counted(value):
                sums[bucket] += value
    return Counter({bucket: value for bucket, value in sums.items() if is_counted(value)})


def client_histograms(days: Days) -> dict[tuple[Origin, str], Counter[str]]:
    """Return the histogram of each client over the window, by metric key."""
    found: dict[tuple[Origin, str], Counter[str]] = defaultdict(Counter)
    for (origin, _, _), day in days.items():
        for key, histograms in day.values.items():
            for bucket, value in bucket_sums(histograms).items():
                found[origin, key][bucket] += value
    return found


def day_aggregates(values: Sequence[int], pings: int) -> dict[str, int]:
    """Return a day's aggregates, each dropped on its own where it is out of bounds."""
    aggregates = {"max": max(values), "min": min(values), "sum": sum(values), "count": pings}
    return {agg: value for agg, value in aggregates.items() if is_counted(value)}


def client_scalars(days: Days, labeled: bool) -> dict[tuple[Origin, str], dict[str, Fraction]]:
    """Return the aggregates of each client over the window, by metric key."""
    found: dict[tuple[Origin, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for (origin, _, _), day in days.items():
        for key, values in day.values.items():
            for agg, value in day_aggregates(values, len(values) if labeled else day.pings).items():
                found[origin, key][agg].append(value)
    return {client: window_aggregates(aggs) for client, aggs in found.items()}


def window_aggregates(days: Mapping[str, Sequence[int]]) -> dict[str, Fraction]:
    """Return max of max, min of min, sums of the rest, and their average."""
    over: dict[str, Callable[[Sequence[int]], int]] = {"max": max, "min": min, "sum": sum, "count": sum}
    whole = {agg: Fraction(over[agg](values)) for agg, values in days.items()}
    return whole | ({"avg": whole["sum"] / whole["count"]} if {"sum", "count"} <= whole.keys() else {})


def client_booleans(days: Days) -> dict[tuple[Origin, str], str]:
    """Return whether each client sent true always, never or sometimes, by metric key."""
    found: dict[tuple[Origin, str], set[bool]] = defaultdict(set)
    for (origin, _, _), day in days.items():
        for key, values in day.values.items():
            found[origin, key] |= set(values)
    names = {frozenset({True}): "always", frozenset({False}): "never", frozenset({True, False}): "sometimes"}
    return {client: names[frozenset(values)] for client, values in found.items()}


# -- the cube, and its thresholds


def groups_of(origin: Origin, key: str, builds: Iterable[str]) -> Iterator[Group]:
    """Yield the combinations that a client's row is of; a system that is NULL is of the roll-up only."""
    systems = {ALL} if origin.os is None else {origin.os, ALL}
    for ping_type, os, build in product({origin.ping_type, ALL}, systems, builds):
        yield Group(origin.version, ping_type, os, build, key)


def large_builds(days: Days, question: Question) -> set[str]:
    """Return the builds that have enough distinct clients, with the probe or without it."""
    clients: dict[str, set[str]] = defaultdict(set)
    for origin, _, _ in days:
        clients[origin.build_hour].add(origin.client_id)
    return {build for build, members in clients.items() if len(members) > question.more_clients_than}


def over_ping_types(group: Group) -> Group:
    """Return the combination of all ping types."""
    return group._replace(ping_type=ALL)


# -- step 2: distributions


def round_away(value: Fraction) -> int:
    """Return the nearest whole number, the one farther from zero of two."""
    nearest = math.floor(abs(value) + Fraction(1, 2))
    return nearest if value >= 0 else -nearest


def functional_buckets(base: int, per_magnitude: int, largest: int) -> list[int]:
    """Return the buckets of timing and memory distributions."""
    step = base ** (1 / per_magnitude)
    last = math.ceil(math.log(largest + 1, base) * per_magnitude)
    return sorted(bound for bound in {0, *(math.floor(step**i) for i in range(last + 1))} if bound <= largest)


def exponential_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """Return the buckets of an exponential custom distribution."""
    bounds = [0, smallest or 1]
    for i in range(2, min(count, largest, 10000)):
        step = (math.log(largest) - math.log(bounds[-1])) / (count - i)
        bounds.append(max(round_away(Fraction(math.exp(math.log(bounds[-1]) + step))), bounds[-1] + 1))
    return bounds


def linear_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """Return the buckets of a linear custom distribution."""
    first = max(1, smallest)
    last = min(count - 1, largest, 10000)
    return [
        0,
        *(round_away(Fraction(first * (count - 1 - i) + largest * (i - 1), count - 2)) for i in range(1, last + 1)),
    ]


def distribution_buckets(question: Question, seen: set[str]) -> list[str]:
    """Return the bucket list of a distribution of which these buckets were seen."""
    if question.declared_labels:
        return sorted(seen)
    if question.buckets is not None:
        kind, *definition = question.buckets
        bounds = {"exponential": exponential_buckets, "linear": linear_buckets}[kind](*definition)
        return [str(bound) for bound in bounds]
    numbers = [int(bucket) for bucket in seen if bucket.isascii() and bucket.isdigit()]
    per_magnitude = 16 if "memory" in question.metric_type else 8
    return [str(bound) for bound in functional_buckets(2, per_magnitude, max(numbers))] if numbers else []


def normalised(histogram: Mapping[str, int], weight: int) -> dict[str, Fraction]:
    """Return the shares of a client's buckets, which add up to its weight."""
    whole = sum(histogram.values())
    return {bucket: Fraction(weight * value, whole or 1) for bucket, value in histogram.items()}


@dataclass
class Tally:
    """What is added up of the clients of one combination."""

    shares: dict[str, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    counts: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    windows: bool = False

    def add(self, histogram: Mapping[str, int], weight: int, windows: bool) -> None:
        """Add a client."""
        for bucket, share in normalised(histogram, weight).items():
            self.shares[bucket] += share
        self.counts.update(histogram)
        self.samples += sum(histogram.values())
        self.windows |= windows

    @property
    def total_sample(self) -> int:
        """Return the samples, ten times where Windows clients are among those who sent them."""
        return self.samples * (WINDOWS_WEIGHT if self.windows else 1)


def distribution_rows(days: Days, question: Question) -> Rows:
    """Return the rows of a distribution: a build that is too small still counts in that of all builds."""
    clients = client_histograms(days)
    builds = large_builds(days, question)
    tallies: dict[Group, Tally] = defaultdict(Tally)
    for (origin, key), histogram in clients.items():
        windows = is_sampled_windows(origin, question)
        for group in groups_of(origin, key, {ALL, *builds} & {ALL, origin.build_hour}):
            tallies[group].add(histogram, WINDOWS_WEIGHT if windows else 1, windows)
    bounds = distribution_buckets(question, {bucket for histogram in clients.values() for bucket in histogram})
    rows: Rows = {
        (*group, "summed_histogram"): distribution_row(
            question, bounds, tally, tallies[over_ping_types(group)].total_sample
        )
        for group, tally in tallies.items()
    }
    return shown(rows, question)


def distribution_row(question: Question, bounds: Sequence[str], tally: Tally, total_sample: int) -> Row:
    """Return the row of a combination."""
    users = round_away(sum(tally.shares.values(), Fraction()))
    histogram = smoothed(tally.shares, bounds, users)
    counts = {bound: Fraction(tally.counts[bound]) for bound in bounds}
    return Row(
        question.metric_type if question.buckets is None else f"{question.metric_type}_{question.buckets[0]}",
        users,
        total_sample,
        json_text(histogram),
        "{}" if question.declared_labels else json_text(percentiles(histogram)),
        json_text(counts),
        "{}" if question.declared_labels else json_text(percentiles(counts)),
    )


def smoothed(amounts: Mapping[str, Fraction | int], bounds: Sequence[str], users: int) -> dict[str, Fraction]:
    """Return (P + 1/K) / (N + 1) of each bucket, as it is stored; a bucket that is listed twice is two of K."""
    own = {bound: amounts.get(bound, 0) for bound in bounds}
    shares = {amount: rounded((amount + Fraction(1, len(bounds))) / (users + 1)) for amount in set(own.values())}
    return {bound: shares[amount] for bound, amount in own.items()}


def rounded(value: Fraction) -> Fraction:
    """Return the value with 4 decimals."""
    return Fraction(round_away(value * 10**4), 10**4)


# -- step 3: scalars


def scalar_buckets(values: Sequence[Fraction]) -> list[str]:
    """Return the buckets of all values of a metric key: from 1 on, whatever the smallest value is."""
    low, high = (math.log2(value) if value > 0 else 0.0 for value in (min(values), max(values)))
    if low >= high:
        return []
    return [f"{2 ** ((high - low) / SCALAR_BUCKETS * k):.2f}" for k in range(SCALAR_BUCKETS)]


def bucket_of(value: Fraction, bounds: Sequence[str]) -> str | None:
    """Return the largest bucket that is not above a value."""
    return max((bound for bound in bounds if exact(bound) <= value), key=exact, default=None)


@cache
def exact(number: str) -> Fraction:
    """Return a number that is written in decimals."""
    return Fraction(number)


def scalar_rows(days: Days, question: Question) -> Rows:
    """Return the five rows of each combination; a build that is too small counts nowhere."""
    builds = large_builds(days, question)
    labeled = "labeled_" in question.metric_type
    clients = {c: aggs for c, aggs in client_scalars(days, labeled).items() if c[0].build_hour in builds}
    values: dict[str, list[Fraction]] = defaultdict(list)
    for (_, key), aggs in clients.items():
        values[key].extend(aggs.values())
    bounds = {key: scalar_buckets(own) for key, own in values.items()}
    sent = [
        (origin, key, agg, bucket_of(value, bounds[key]))
        for (origin, key), aggs in clients.items()
        for agg, value in aggs.items()
    ]
    samples, windows = scalar_samples(clients, question)
    total = {group: count * (WINDOWS_WEIGHT if group in windows else 1) for group, count in samples.items()}
    return counted_rows(sent, bounds, question, lambda group: total.get(over_ping_types(group), 0))


def scalar_samples(
    clients: Mapping[tuple[Origin, str], Mapping[str, Fraction]], question: Question
) -> tuple[dict[Group, int], set[Group]]:
    """Return the sum of the counts of each combination, and the combinations with sampled Windows clients."""
    samples: dict[Group, int] = defaultdict(int)
    windows: set[Group] = set()
    for (origin, key), aggs in clients.items():
        for group in groups_of(origin, key, (origin.build_hour, ALL)):
            samples[group] += int(aggs.get("count", 0))
            windows |= {group} if is_sampled_windows(origin, question) else set()
    return samples, windows


def counted_rows(
    sent: Iterable[tuple[Origin, str, str, str | None]],
    bounds: Mapping[str, Sequence[str]],
    question: Question,
    total_sample: Callable[[Group], int],
) -> Rows:
    """Return the rows of distinct clients counted by bucket."""
    clients: dict[tuple[Group, str], dict[str | None, set[str]]] = defaultdict(lambda: defaultdict(set))
    for origin, key, agg, bucket in sent:
        for group in groups_of(origin, key, (origin.build_hour, ALL)):
            clients[group, agg][bucket].add(origin.client_id)
    counts = {place: {bucket: len(members) for bucket, members in found.items()} for place, found in clients.items()}
    rows: Rows = {}
    for (group, agg), found in counts.items():
        windows = sum(counts.get((group._replace(os="Windows"), agg), {}).values())
        users = weighted_users(group, sum(found.values()), windows, question)
        own = {bucket: count for bucket, count in found.items() if bucket is not None}
        histogram = smoothed(own, bounds[group.key], sum(found.values()))
        text, marks = json_text(histogram), "{}" if agg == "" else json_text(percentiles(histogram))
        rows[(*group, agg)] = Row(question.metric_type, users, total_sample(group), text, marks, text, marks)
    return shown(rows, question)


def weighted_users(group: Group, users: int, windows: int, question: Question) -> int:
    """Return total_users: ten times those of Windows, of which all systems get nine tenths more."""
    if not is_sampled_version(question, group.version):
        return users
    of_windows = windows * WINDOWS_WEIGHT
    return of_windows if group.os == "Windows" else users + (of_windows * 9 // 10 if group.os == ALL else 0)


# -- step 4: booleans


def boolean_rows(days: Days, question: Question) -> Rows:
    """Return a row of each combination, with no samples and no percentiles."""
    builds = large_builds(days, question)
    clients = client_booleans(days)
    sent = [(origin, key, "", name) for (origin, key), name in clients.items() if origin.build_hour in builds]
    return counted_rows(sent, dict.fromkeys((key for _, key in clients), BOOLEANS), question, lambda _: 0)


# -- steps 5 and 6: percentiles, what is shown, and how it is written


def percentiles(histogram: Mapping[str, Fraction | int]) -> dict[str, Fraction]:
    """Return the key of the first bucket, in numeric order, at which each share of the whole is reached."""
    keys = sorted(histogram, key=Decimal)
    unit = math.lcm(*(share.denominator for share in histogram.values()))  # sums of integers take a tenth of the time
    reached = list(accumulate(histogram[key].numerator * (unit // histogram[key].denominator) for key in keys))
    enough = {percent: math.ceil(reached[-1] * Fraction(percent) / 100) for percent in PERCENTILES} if keys else {}
    return {
        percent: exact(next((key for key, sum_ in zip(keys, reached, strict=True) if sum_ >= least and sum_), keys[-1]))
        for percent, least in enough.items()
    }


def shown(rows: Rows, question: Question) -> Rows:
    """Return the rows with enough users."""
    return {identity: row for identity, row in rows.items() if row.total_users > question.more_users_than}


def json_text(numbers: Mapping[str, Fraction]) -> str:
    """Return an object of numbers without needless digits, in the order in which they are."""
    written = (f"{json.dumps(key)}:{decimal_text(value)}" for key, value in numbers.items())
    return f"{{{','.join(written)}}}"


def decimal_text(value: Fraction) -> str:
    """Return a number of up to 4 decimals."""
    whole, rest = divmod(value.numerator * 10**4 // value.denominator, 10**4)
    digits = f"{rest:04}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def reference_rows(pings: Sequence[Ping], question: Question) -> Rows:
    """Return the rows of a probe."""
    latest = latest_version(pings, question)
    if latest is None:
        return {}
    days = days_of(pings, question, latest)
    if question.metric_type.endswith("boolean"):
        return boolean_rows(days, question)
    is_distribution = question.declared_labels or question.metric_type.endswith("distribution")
    return (distribution_rows if is_distribution else scalar_rows)(days, question)
