"""Journeys: the pages, probes and tools that follow each other within a session."""

from __future__ import annotations

from typing import Literal

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import Bots
from usage_service.windows import TimeRange

SESSIONS_SAMPLED = 1_000

Kind = Literal["page", "probe", "all"]
KINDS: dict[Kind, list[str]] = {"page": ["page"], "probe": ["probe"], "all": ["page", "probe", "tool"]}


class Step(msgspec.Struct, frozen=True):
    """A page or probe that was viewed, or a tool that a link led to; `kind` says which of these."""

    kind: str
    name: str


class Path(msgspec.Struct, frozen=True):
    """Steps that followed each other, how often they did, and their share of all paths of the same length."""

    steps: list[Step]
    count: int
    share: float


class Journeys(msgspec.Struct, frozen=True):
    """Steps of the sessions that began in a time range, the most frequent first.

    `entries` and `exits` are first and last steps; `transitions` are two steps in a row, `paths` as many as were asked
    for. All sessions are read, or those of a share of the visitors (`share_of_visitors_read`) when there are very many.
    """

    sessions: int
    sessions_read: int
    share_of_visitors_read: float
    entries: list[Path]
    exits: list[Path]
    transitions: list[Path]
    paths: list[Path]


async def journeys(
    connection: Connection, time_range: TimeRange, product: str | None, bots: Bots, kind: Kind, steps: int, limit: int
) -> Journeys:
    """Return the `limit` most frequent entries, exits, transitions and paths.

    With a product, only the steps that belong to it or to no product count. The page of a probe, next to it, is not a
    step of its own.
    """
    filters = (*time_range, product, bots)
    [sample] = await connection.fetch(query("sessions", "sample"), *filters, SESSIONS_SAMPLED)
    rows = await connection.fetch(
        query("journeys", "followed"), *filters, sample["sample_key"], KINDS[kind], limit, steps
    )
    return Journeys(
        sample["sessions"],
        next(row["number"] for row in rows if row["section"] == "sessions"),
        sample["share_of_visitors_read"],
        *(_paths(rows, section) for section in ("entries", "exits", "transitions", "paths")),
    )


def _paths(rows: list[asyncpg.Record], section: str) -> list[Path]:
    return [
        Path([Step(*step.split(" ", 1)) for step in row["steps"]], row["number"], row["share"])
        for row in rows
        if row["section"] == section
    ]
