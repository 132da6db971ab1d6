"""Summaries of sessions: their length and depth, what was used in them, and their role in the workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import SESSIONS_SAMPLED, Bots, Role
from usage_service.windows import STEPS, Interval, TimeRange

SAMPLE_KEYS = 2**32  # a sample key is 32 bits of a pseudonym (sample_key in schema.sql)
PERCENTILES = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}


class Quantiles(msgspec.Struct, frozen=True):
    """Values that a quarter, half, ... of the sessions do not exceed (nearest rank)."""

    p25: float
    median: float
    p75: float
    p90: float
    p99: float


class Use(msgspec.Struct, frozen=True):
    """The number and share of the sessions read in which something was used."""

    name: str
    sessions: int
    share: float


class Number(msgspec.Struct, frozen=True):
    """The number of the sessions read that had `number` of something."""

    number: int
    sessions: int


class Roles(msgspec.Struct, frozen=True):
    """The number of sessions in the bucket that begins at `start`, and the share of each role in the workflow."""

    start: datetime
    sessions: int
    shares: dict[Role, float]


class Summary(msgspec.Struct, frozen=True):
    """Sessions that began in a time range: how many there were, and what those that were read are like.

    All sessions are read, or those of a share of the visitors (`share_of_visitors_read`) when there are very many.
    `sessions_cut` of those read had more than a hundred names of a kind: which ones beyond is not known, how many is
    estimated. `quantiles` are null without a session.
    """

    since: datetime
    until: datetime
    sessions: int
    sessions_read: int
    share_of_visitors_read: float
    sessions_cut: int
    roles: dict[Role, float]
    roles_over_time: list[Roles]
    quantiles: dict[str, Quantiles] | None
    probes_a_session: list[Number]
    controls_a_session: list[Number]
    probes: list[Use]
    controls: list[Use]
    tools_left: list[Use]
    came_from: list[Use]
    referrers: list[Use]


async def summarise(
    connection: Connection, time_range: TimeRange, product: str | None, bots: Bots, interval: Interval, limit: int
) -> Summary:
    """Summarise the sessions of a time range, with the `limit` most used names of each kind.

    Buckets without a session are left out.
    """
    filters = (*time_range, product, bots)
    roles = await connection.fetch(query("sessions", "roles"), *filters, STEPS[interval], SESSIONS_SAMPLED)
    sample_key = roles[0]["sample_key"] if roles else 0
    rows = await connection.fetch(query("sessions", "summary"), *filters, sample_key, limit, list(PERCENTILES.values()))
    measures = {row["name"]: row for row in rows if row["kind"] == "measure"}
    number = measures["events"]["sessions"]
    return Summary(
        since=time_range.since,
        until=time_range.until,
        sessions=sum(row["sessions"] for row in roles),
        sessions_read=number,
        share_of_visitors_read=sample_key / SAMPLE_KEYS if roles else 1.0,
        sessions_cut=measures["cut"]["sessions"],
        roles=_shares(roles),
        roles_over_time=_over_time(roles),
        quantiles=_quantiles(measures) if number else None,
        probes_a_session=_numbers(rows, "probes_a_session"),
        controls_a_session=_numbers(rows, "controls_a_session"),
        probes=_uses(rows, "probes", number),
        controls=_uses(rows, "controls", number),
        tools_left=_uses(rows, "tools_left", number),
        came_from=_uses(rows, "came_from", number),
        referrers=_uses(rows, "referrers", number),
    )


async def count_over_time(
    connection: Connection, time_range: TimeRange, product: str | None, bots: Bots, interval: Interval
) -> list[Roles]:
    """Count the sessions that began in each bucket of a time range, by role; buckets without one are left out."""
    roles = await connection.fetch(
        query("sessions", "roles"), *time_range, product, bots, STEPS[interval], SESSIONS_SAMPLED
    )
    return _over_time(roles)


def _shares(roles: list[asyncpg.Record]) -> dict[Role, float]:
    counts: dict[Role, int] = {"starting_point": 0, "endpoint": 0, "in_between": 0, "whole": 0}
    for row in roles:
        counts[row["role"]] += row["sessions"]
    total = max(sum(counts.values()), 1)
    return {role: round(number / total, 6) for role, number in counts.items()}


def _over_time(roles: list[asyncpg.Record]) -> list[Roles]:
    by_start: dict[datetime, list[asyncpg.Record]] = defaultdict(list)
    for row in roles:
        by_start[row["start"]].append(row)
    return [Roles(start, sum(row["sessions"] for row in own), _shares(own)) for start, own in sorted(by_start.items())]


def _quantiles(measures: Mapping[str, asyncpg.Record]) -> dict[str, Quantiles]:
    seconds = Quantiles(*measures["seconds"]["percentiles"])
    depths = {name: Quantiles(*map(int, measures[name]["percentiles"])) for name in ("events", "probes", "controls")}
    return {"seconds": seconds, **depths}


def _numbers(rows: list[asyncpg.Record], kind: str) -> list[Number]:
    return [Number(row["rank"], row["sessions"]) for row in rows if row["kind"] == kind]


def _uses(rows: list[asyncpg.Record], kind: str, number: int) -> list[Use]:
    counts = [(row["name"], row["sessions"]) for row in rows if row["kind"] == kind]
    return [Use(name, sessions, round(sessions / number, 6)) for name, sessions in counts]
