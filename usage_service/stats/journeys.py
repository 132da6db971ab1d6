"""Journeys: which page, probe or tool follows which within a session."""

from __future__ import annotations

from typing import Literal

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import Bots
from usage_service.windows import TimeRange

SESSIONS_LOOKED_AT = 1_000

Kind = Literal["page", "probe", "all"]
KINDS: dict[Kind, list[str]] = {"page": ["page"], "probe": ["probe"], "all": ["page", "probe", "tool"]}


class Step(msgspec.Struct, frozen=True):
    """A page or probe that was viewed, or a tool that was left for; `kind` says which."""

    kind: str
    name: str


class Path(msgspec.Struct, frozen=True):
    """Steps that followed each other, how often, and the share of all that are of the same length."""

    steps: list[Step]
    count: int
    share: float


class Journeys(msgspec.Struct, frozen=True):
    """The steps of the sessions that began in a time range, the most frequent first.

    `entries` and `exits` are first and last steps, `transitions` two and `paths` the number asked for in a row. All
    sessions are looked at, or those of a share of the visitors where there are very many.
    """

    sessions: int
    sessions_looked_at: int
    visitors_looked_at: float
    entries: list[Path]
    exits: list[Path]
    transitions: list[Path]
    paths: list[Path]


async def journeys(
    connection: Connection, time_range: TimeRange, product: str | None, bots: Bots, kind: Kind, steps: int, limit: int
) -> Journeys:
    """The `limit` most frequent of each; of a product, the steps that are of it or of none."""
    of = (*time_range, product, bots)
    [looked_at] = await connection.fetch(query("journeys", "looked_at"), *of, SESSIONS_LOOKED_AT)
    rows = await connection.fetch(query("journeys", "followed"), *of, looked_at["mark"], KINDS[kind], limit, steps)
    return Journeys(
        looked_at["sessions"],
        looked_at["sessions_looked_at"],
        looked_at["visitors_looked_at"],
        *(_paths(rows, section) for section in ("entries", "exits", "transitions", "paths")),
    )


def _paths(rows: list[asyncpg.Record], section: str) -> list[Path]:
    return [
        Path([Step(*step.split(" ", 1)) for step in row["steps"]], row["number"], row["share"])
        for row in rows
        if row["section"] == section
    ]
