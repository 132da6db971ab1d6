"""Sample pings: DuckDB expressions that make them up from hashes, so that a seed always gives the same."""

from __future__ import annotations

import datetime as dt
import zlib
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

import numpy as np

from builder.warehouse.probes import PROBES, Probe

PROJECT, DATASET, TABLE = "moz-fx-data-shared-prod", "firefox_desktop_stable", "metrics_v1"
BUILDS, DAYS_A_BUILD, NEWEST_VERSION, BUILDS_A_VERSION = 30, 3, 152, 10
REGRESSED_BUILDS = range(15, 22)
PAIRS = "STRUCT(key VARCHAR, value BIGINT)[]"
DISTRIBUTION = f'STRUCT("sum" BIGINT, "values" {PAIRS})'
TYPES = {
    "counter": "BIGINT",
    "quantity": "BIGINT",
    "boolean": "BOOLEAN",
    "timespan": "STRUCT(value BIGINT, time_unit VARCHAR)",
    "labeled_counter": PAIRS,
    "labeled_boolean": "STRUCT(key VARCHAR, value BOOLEAN)[]",
    "timing_distribution": DISTRIBUTION,
    "memory_distribution": DISTRIBUTION,
    "custom_distribution": DISTRIBUTION,
}


@dataclass(frozen=True)
class SampleOptions:
    """What is made up: how many clients, from which seed, with the newest build on the day `until`."""

    clients: int = 20_000
    seed: int = 1
    until: dt.date = dt.date(2026, 1, 1)


def clients(options: SampleOptions) -> tuple[list[str], list[int], list[str], list[str], list[str | None]]:
    """Columns of the clients: id, sample_id, system, channel, internet provider."""
    random = np.random.default_rng(options.seed)
    ids = [str(UUID(bytes=random.bytes(16), version=4)) for _ in range(options.clients)]
    samples = [zlib.crc32(name.encode()) % 100 for name in ids]
    systems = random.choice(["Windows", "Linux", "Darwin"], options.clients, p=[0.7, 0.12, 0.18]).tolist()
    channels = random.choice(["nightly", "beta"], options.clients, p=[0.9, 0.1]).tolist()
    providers = random.choice(
        np.array(["Comcast Cable", "Deutsche Telekom", "browserstack", "BrowserStack", None], dtype=object),
        options.clients,
        p=[0.3, 0.3, 0.005, 0.005, 0.39],
    ).tolist()
    return ids, samples, systems, channels, providers


def builds(options: SampleOptions) -> list[tuple[int, dt.datetime, str, str, str, int, bool]]:
    """Rows of the builds: number, time, build id, versions on Nightly and Beta, seconds it is the newest, regressed."""
    made = [_build_time(options, build) for build in range(BUILDS)]
    ends = [*made[1:], dt.datetime.combine(options.until + dt.timedelta(days=1), dt.time(), dt.UTC)]
    return [
        (
            build,
            start,
            start.strftime("%Y%m%d%H%M%S"),
            f"{_version(build)}.0a1",
            f"{_version(build) - 1}.0",
            int((end - start).total_seconds()),
            build in REGRESSED_BUILDS,
        )
        for build, (start, end) in enumerate(zip(made, ends, strict=True))
    ]


def _build_time(options: SampleOptions, build: int) -> dt.datetime:
    # The last one on the day `until`, the others every third day before.
    day = options.until - dt.timedelta(days=DAYS_A_BUILD * (BUILDS - 1 - build))
    return dt.datetime.combine(day, dt.time(9 if build % 2 else 21, 31, 7), dt.UTC)


def _version(build: int) -> int:
    return NEWEST_VERSION - (BUILDS - 1 - build) // BUILDS_A_VERSION


def metrics_type() -> str:
    """The DuckDB type of the `metrics` column."""
    kinds = []
    for kind, probes in by_type():
        columns = ", ".join(f"{probe.name} {TYPES[kind]}" for probe in probes)
        kinds.append(f'"{kind}" STRUCT({columns})')
    return f"STRUCT({', '.join(kinds)})"


def metrics_value() -> str:
    """The DuckDB expression that makes up the `metrics` of a ping of a build."""
    kinds = []
    for kind, probes in by_type():
        values = ", ".join(f"'{probe.name}': {_value(probe)}" for probe in probes)
        kinds.append(f"'{kind}': {{{values}}}")
    return f"{{{', '.join(kinds)}}}"


def bounds_name(probe: Probe) -> str:
    """The DuckDB variable that holds the keys of a distribution's buckets."""
    return f"bounds_{probe.name if probe.bounds else probe.type}"


def bounds() -> dict[str, list[str]]:
    """Those variables' values."""
    distributions = [probe for probe in PROBES if "distribution" in probe.type]
    return {bounds_name(probe): [str(bound) for bound in probe.buckets()] for probe in distributions}


def by_type() -> list[tuple[str, list[Probe]]]:
    """The probes by metric type."""
    ordered = sorted(PROBES, key=lambda probe: probe.type)
    return [(kind, list(group)) for kind, group in groupby(ordered, key=lambda probe: probe.type)]


def _value(probe: Probe) -> str:
    draw = f"hash(ping, '{probe.name}')"
    sent = f"{draw} % 1000 < {int(probe.presence * 1000)}"
    if probe.only_clients_below is not None:
        sent = f"client < {probe.only_clients_below}"
    return f"CASE WHEN {sent} THEN {_drawn(probe, draw, _level(probe, draw))} END"


def _level(probe: Probe, draw: str) -> str:
    """A value with a hump in the middle: the mean of two uniform draws, moved by system and build."""
    moved = f"{probe.centre} + CASE WHEN regressed THEN {probe.regression} ELSE 0 END"
    system = f"CASE os WHEN 'Windows' THEN {probe.windows} WHEN 'Darwin' THEN {probe.mac} ELSE 0 END"
    hump = f"(({draw} >> 10) % 1000 + ({draw} >> 22) % 1000) / 2000.0"
    return f"({moved} + {system} + {probe.spread} * {hump})"


def _drawn(probe: Probe, draw: str, level: str) -> str:
    whole = f"CAST(floor({level}) AS BIGINT)"
    if probe.labels:
        pairs = [_pair(f"'{name}'", _labeled(probe, draw, whole, i)) for i, name in enumerate(probe.labels)]
        return f"[{', '.join(pairs)}]"
    if probe.type == "boolean":
        return f"({draw} >> 30) % 1000 < 1000 * ({level} - {probe.spread} / 2)"
    if probe.type == "timespan":
        return f"{{'value': {whole}, 'time_unit': 'millisecond'}}"
    return _distribution(probe, draw, whole) if "distribution" in probe.type else whole


def _labeled(probe: Probe, draw: str, whole: str, index: int) -> str:
    part = f"({draw} >> {30 + 7 * index}) % 7"
    return f"{part} > 2" if probe.type == "labeled_boolean" else f"{whole} + CAST({part} AS BIGINT)"


def _distribution(probe: Probe, draw: str, middle: str) -> str:
    # A variable, because a list of hundreds of literals takes long to plan.
    keys, last = f"getvariable('{bounds_name(probe)}')", len(probe.buckets())
    pairs = []
    for step in (-1, 0, 1, 2):
        key = f"{keys}[greatest(2, least({middle} + {step}, {last}))]"
        count = f"CAST(1 + ({draw} >> {34 + 5 * step}) % 16 // {1 + abs(step)} AS BIGINT)"
        pairs.append(_pair(key, count))
    return f"{{'sum': CAST({draw} % 1000000 AS BIGINT), 'values': [{', '.join(pairs)}]}}"


def _pair(key: str, value: str) -> str:
    return f"{{'key': {key}, 'value': {value}}}"
