"""Comparison of two choices of rows of probes, and the builds at which a probe moved."""

from __future__ import annotations

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.choices import Choice, clients_of_row, distribution_of_row, no_row, settled
from usage_service.stats.differences import (
    Difference,
    LargestDifference,
    category_differences,
    gap_between,
    median_difference,
    percentile_differences,
)
from usage_service.stats.discoveries import RATE
from usage_service.stats.distributions import Distribution
from usage_service.stats.moves import Move, moves_among

FEW_CLIENTS = 100


class Side(msgspec.Struct, frozen=True):
    """One side of a comparison.

    `clients` is the number of independent ones, at least, which the intervals are made for: a row of several builds or
    pings may have counted a client in each, and on Windows in release one in ten is read. `few_clients` says that they
    are fewer than FEW_CLIENTS.
    """

    product: str
    channel: str
    probe: str
    version: int
    ping_type: str
    os: str
    build_id: str
    metric_key: str
    client_agg_type: str
    metric_type: str
    total_users: int
    clients: float
    few_clients: bool
    histogram: msgspec.Raw


class Comparison(msgspec.Struct, frozen=True):
    """Differences of the second side from the first, with 95 % intervals.

    `differs` is null when the two cannot be compared: they share no bucket, or one of them has only one value.
    """

    first: Side
    second: Side
    percentiles: list[Difference]
    categories: list[Difference]
    largest: LargestDifference | None
    differs: bool | None


class Change(msgspec.Struct, frozen=True):
    """Build at which the distribution moved, and by how much from the build before that was compared.

    `p_value` is corrected for the number of builds. `medians` are null for categories.
    """

    build_id: str
    version: int
    revision: str | None
    build_before: str
    version_before: int
    revision_before: str | None
    total_users: int
    users_before: int
    medians: Difference | None
    largest: LargestDifference


class Changes(msgspec.Struct, frozen=True):
    """Builds at which a distribution moved, oldest first, of how many that were compared with the one before.

    `left_out` builds had too few clients. `usual` is how much builds usually differ beyond sampling, in its standard
    deviations; 0 when sampling explains it.
    """

    choice: Choice
    compared: int
    left_out: int
    usual: float
    changes: list[Change]


async def compare(connection: Connection, first: Choice, second: Choice) -> Comparison:
    """Return the comparison; raise a Problem (404) where there is no such row."""
    one, ours = await _side(connection, first)
    other, theirs = await _side(connection, second)
    if ours is None or theirs is None:
        return Comparison(one, other, [], [], None, None)
    same_clients = (one.probe, one.metric_key) != (other.probe, other.metric_key)
    gap = gap_between(ours, theirs, same_clients)
    return Comparison(
        one,
        other,
        percentile_differences(ours, theirs),
        category_differences(ours, theirs, same_clients),
        gap.largest(gap.interval(), gap.p_value) if gap else None,
        gap.p_value < RATE if gap else None,
    )


async def find_changes(connection: Connection, asked: Choice) -> Changes:
    """Return the builds at which the probe moved; the version and build of the choice are not looked at."""
    choice = await settled(connection, asked)
    chosen = choice.product, choice.probe, choice.channel, choice.ping_type, choice.os
    within = choice.metric_key, choice.client_agg_type
    rows = await connection.fetch(query("comparisons", "builds"), *chosen, *within)
    builds = [distribution_of_row(choice, row) for row in rows]
    found = moves_among(builds)
    changes = [_change(move, rows, builds) for move in found.moves]
    return Changes(choice, found.steps, found.left_out, found.usual, changes)


async def _side(connection: Connection, asked: Choice) -> tuple[Side, Distribution | None]:
    choice = await settled(connection, asked)
    chosen = choice.product, choice.probe, choice.channel, choice.version, choice.ping_type, choice.os, choice.build_id
    row = await connection.fetchrow(query("comparisons", "row"), *chosen, choice.metric_key, choice.client_agg_type)
    if row is None:
        raise no_row(choice)
    found = distribution_of_row(choice, row)
    clients = found.clients if found else clients_of_row(choice, row)
    told = {"metric_type": row["metric_type"], "total_users": row["total_users"], "clients": clients}
    told |= {"few_clients": clients < FEW_CLIENTS, "histogram": msgspec.Raw(row["histogram"].encode())}
    return Side(**msgspec.structs.asdict(choice), **told), found


def _change(move: Move, rows: list[asyncpg.Record], builds: list[Distribution | None]) -> Change:
    before, here = rows[move.before], rows[move.place]
    first, second = builds[move.before], builds[move.place]
    return Change(
        here["build_id"],
        here["version"],
        here["revision"],
        before["build_id"],
        before["version"],
        before["revision"],
        here["total_users"],
        before["total_users"],
        median_difference(first, second) if first and second else None,
        move.gap.largest(move.difference, move.p_value),
    )
