"""Probes whose distributions a version moved, corrected for looking at many."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.choices import Choice, distribution_of_row
from usage_service.stats.differences import Difference, Gap, LargestDifference, gap_between, median_difference
from usage_service.stats.discoveries import RATE, discoveries_among
from usage_service.stats.distributions import Distribution
from usage_service.stats.value_units import unit_of_values

ROWS_READ = 10_000


class MovedProbe(msgspec.Struct, frozen=True):
    """Probe, or a label of it, that the version moved from the version before.

    The p-value is corrected for the number of distributions; `medians` are null for categories. `unit` is that of the
    values, null for a count.
    """

    probe: str
    metric_key: str
    client_agg_type: str
    version_before: int
    medians: Difference | None
    largest: LargestDifference
    unit: str | None


class VersionMoves(msgspec.Struct, frozen=True):
    """Distributions that a version moved, the largest difference first, of how many that were compared.

    Of all built probes and their labels the first ROWS_READ rows are read, by name; `cut` says whether there are more.
    """

    product: str
    channel: str
    version: int
    compared: int
    moved: int
    cut: bool
    probes: list[MovedProbe]


class _Pair(NamedTuple):
    row: asyncpg.Record
    version_before: int
    sides: tuple[Distribution, Distribution]
    gap: Gap


async def version_moves(
    connection: Connection, product: str, channel: str, version: int, limit: int
) -> Callable[[], VersionMoves]:
    """Read the rows of all probes of a version and of the one before; return what computes the first `limit` moves."""
    rows = await connection.fetch(query("comparisons", "versions"), product, channel, version, ROWS_READ)

    def computed() -> VersionMoves:
        pairs = _pairs(Choice(product, channel, ""), rows)
        adjusted, confidence = discoveries_among([pair.gap.p_value for pair in pairs])
        moved = [
            _moved(pair, p_value, confidence)
            for pair, p_value in zip(pairs, adjusted.tolist(), strict=True)
            if p_value <= RATE
        ]
        moved.sort(key=lambda one: -abs(one.largest.difference.value))
        cut = len(rows) == ROWS_READ
        return VersionMoves(product, channel, version, len(pairs), len(moved), cut, moved[:limit])

    return computed


def _pairs(of: Choice, rows: list[asyncpg.Record]) -> list[_Pair]:
    """Return what can be compared: two rows that follow each other are of one distribution in two versions."""
    pairs = []
    for before, row in pairwise(rows):
        if _key(before) == _key(row):
            choice = msgspec.structs.replace(of, client_agg_type=row["client_agg_type"])
            first, second = distribution_of_row(choice, before), distribution_of_row(choice, row)
            gap = gap_between(first, second) if first and second else None
            if first and second and gap:
                pairs.append(_Pair(row, before["version"], (first, second), gap))
    return pairs


def _key(row: asyncpg.Record) -> tuple[str, str, str]:
    return row["probe"], row["metric_key"], row["client_agg_type"]


def _moved(pair: _Pair, p_value: float, confidence: float) -> MovedProbe:
    largest = pair.gap.largest(pair.gap.interval(confidence), p_value)
    unit = unit_of_values(*(pair.row[name] for name in ("metric_type", "time_unit", "memory_unit", "unit")))
    return MovedProbe(*_key(pair.row), pair.version_before, median_difference(*pair.sides), largest, unit)
