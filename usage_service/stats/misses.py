"""Misses of a probe: who viewed it and found nothing, because it was not built."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.windows import TimeRange

VISITS_READ = 200


class ChannelMisses(msgspec.Struct, frozen=True):
    """Views of a probe in a channel (null: none was named) that found data or missed it, and when the last did."""

    channel: str | None
    found: int
    missing: int
    last_missed: datetime | None


class MissingSession(msgspec.Struct, frozen=True):
    """A session in which somebody missed the probe; `visitor` is a pseudonym."""

    started_at: datetime
    visitor: UUID
    seconds: float
    events: int


class Misses(msgspec.Struct, frozen=True):
    """Views that found nothing, by channel; the people of hours in which nobody found it, and their latest sessions."""

    channels: list[ChannelMisses]
    visitors: int
    sessions: list[MissingSession]


async def find_misses(connection: Connection, time_range: TimeRange, product: str, probe: str, limit: int) -> Misses:
    """Return who missed a probe in a time range."""
    asked = *time_range, product, probe
    channels = await connection.fetch(query("misses", "channels"), *asked)
    visitors: int = await connection.fetchval(query("misses", "visitors"), *asked)
    sessions = await connection.fetch(query("misses", "sessions"), *asked, limit, VISITS_READ)
    return Misses([ChannelMisses(**row) for row in channels], visitors, [MissingSession(**row) for row in sessions])
