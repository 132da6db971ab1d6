"""Repeated measurements, their statistics and rows of the table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second, and the cores that each program kept busy meanwhile."""

    events_a_second: float
    cores: dict[str, float]


class Load(Rate, frozen=True, kw_only=True):
    """Result of the load generator's timed part, with latencies in seconds."""

    requests_a_second: float
    p50: float
    p95: float
    p99: float


class Row(NamedTuple):
    """Row of the table: runs of ours and of what it is compared with, made in turns."""

    what: str
    unit: str
    ours: Sequence[float]
    against: str
    theirs: Sequence[float]
    reach: float | None  # None where both are shown beside each other, without a target
    note: str = ""
    most: bool = False  # whether `reach` is an upper bound of the ratio

    @property
    def ratios(self) -> list[float]:
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        if self.reach is None:
            return True
        return self.ratio <= self.reach if self.most else self.ratio >= self.reach


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def latencies(loads: Sequence[Load]) -> str:
    """Return in words the medians over the runs of each run's percentiles."""
    p50, p95, p99 = (statistics.median(getattr(load, name) for load in loads) for name in ("p50", "p95", "p99"))
    return f"p50 {p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


def cores(loads: Sequence[Rate]) -> str:
    """Return in words the processor cores in use, and the processor time an event, medians over the runs."""
    if not loads:
        return "not installed"
    used = {name: statistics.median(load.cores[name] for load in loads) for name in loads[0].cores}
    in_use = ", ".join(f"{name} {number:.2f}" for name, number in used.items())
    if not all(load.events_a_second for load in loads):
        return f"cores in use: {in_use}"
    each = ", ".join(f"{name} {statistics.median(costs(loads, name)):.1f} us" for name in used)
    return f"cores in use: {in_use}; processor time an event: {each}"


def costs(loads: Sequence[Rate], *programs: str) -> list[float]:
    """Return the microseconds of processor time an event that these programs took, of each run."""
    return [1e6 * sum(load.cores[name] for name in programs) / load.events_a_second for load in loads]


def rates(loads: Sequence[Rate]) -> list[float]:
    """Return the events a second of each run."""
    return [load.events_a_second for load in loads]
