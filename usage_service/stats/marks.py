"""Marks in time whose effect is asked for: releases, or the days on which events of any other type occurred."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.problems import Problem
from usage_service.queries import query
from usage_service.shared.patterns import worded
from usage_service.shared.postgres import Connection
from usage_service.windows import TimeRange

RELEASES = "release_published"
OF_PEOPLE = ("page_viewed", "probe_searched", "probe_viewed", "control_changed", "link_followed")
EVENTS_READ = 5_000

MarkType = Annotated[
    str,
    Meta(
        pattern=worded(
            rf"^(?!(?:{'|'.join(OF_PEOPLE)})$)[a-z][a-z0-9_]{{1,63}}(?!\n)$",
            f"a type of event in small letters, such as x_campaign, and none of {', '.join(OF_PEOPLE)}",
        ),
        description="type of event, also one of your own that begins with x_; what people do all day marks no day",
    ),
]


class Mark(msgspec.Struct, frozen=True):
    """Instant of a release, or the first of a type of event on a day; None is any product or channel.

    `label` is the version of a release, else what the event has as `label`, `name`, `title` or `version`.
    """

    product: str | None
    channel: str | None
    version: int | None
    label: str | None
    published_at: datetime


async def find_marks(
    connection: Connection, kind: str, time_range: TimeRange, product: str | None, channel: str | None, limit: int
) -> list[Mark]:
    """Return the latest marks of a time range, the latest first. Of other events the latest EVENTS_READ are read."""
    asked = *time_range, product, channel, limit
    if kind == RELEASES:
        rows = await connection.fetch(query("releases", "published"), *asked)
    else:
        rows = await connection.fetch(query("releases", "occurred"), *asked, kind, EVENTS_READ)
    return [Mark(**row) for row in rows]


async def published_at(connection: Connection, product: str, channel: str | None, version: int | None) -> datetime:
    """Return when a channel got a version; raise a Problem (404) when it never did."""
    found: datetime | None = await connection.fetchval(query("releases", "published_at"), product, channel, version)
    if found is None:
        raise Problem(404, "Unknown release", f"{product} {channel} never got version {version}, says the log")
    return found


async def log_end(connection: Connection) -> int:
    """Return the last position of the log."""
    end: int = await connection.fetchval(query("log", "end"))
    return end
