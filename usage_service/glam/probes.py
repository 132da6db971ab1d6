"""Probes as GLAM lists them, those that its home page shows, and when rows were last refreshed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection


class ProbeInfo(msgspec.Struct, frozen=True):
    """What the catalogue knows of a probe, under GLAM's names."""

    name: str
    type: str
    labels: list[str] | None


class ShownProbe(msgspec.Struct, frozen=True):
    """A probe with its histogram, which is a JSON text in a text, as in GLAM."""

    data: str
    info: ProbeInfo


async def find_updates(connection: Connection, name: str) -> dict[str, datetime]:
    """Return when each product and channel last got rows; `name` is one such as fog-nightly, or empty for all."""
    return {row["name"]: row["finished_at"] for row in await connection.fetch(query("glam", "updates"), name)}


async def find_last_build(connection: Connection) -> datetime | None:
    """Return when a build was last over, which changes whenever rows do."""
    found: datetime | None = await connection.fetchval(query("glam", "last_build"))
    return found


async def list_probes(connection: Connection, product: str) -> dict[str, ProbeInfo]:
    """Return the probes of a product that are neither retired nor hidden, by name."""
    return {row["name"]: _info(row) for row in await connection.fetch(query("glam", "probes"), product)}


async def show_probes(
    connection: Connection, product: str, channel: str, probes: Sequence[str], limit: int
) -> list[ShownProbe]:
    """Return the first of the given probes that have a histogram to show, in their order."""
    rows = await connection.fetch(query("glam", "shown_first"), product, channel, probes, limit)
    return [ShownProbe(row["histogram"], _info(row)) for row in rows]


def _info(row: asyncpg.Record) -> ProbeInfo:
    return ProbeInfo(row["name"], row["type"], row["labels"])
