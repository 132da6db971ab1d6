"""News of probes: one was built, its distribution moved, it went unviewed for long, an event of it was set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args
from uuid import UUID, uuid5

import asyncpg
import msgspec

from usage_service.cursors import InstantCursor, microseconds_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.choices import Choice
from usage_service.stats.comparisons import Change, find_changes

UNVIEWED_DAYS = 90
UNVIEWED = timedelta(days=UNVIEWED_DAYS)
HOUR_FORMAT = "%Y%m%d%H"  # of the builds of the application in rows
NAMES = UUID("0c8bbf6b-5d0c-4d1c-9d05-2a7d5c6f1a90")  # of ids of news: chosen once, so that they never change

NewsKind = Literal["built", "moved", "unviewed", "set_aside"]
KINDS: tuple[NewsKind, ...] = get_args(NewsKind)


class News(msgspec.Struct, frozen=True):
    """Something that happened to a probe `at` an instant; `key` names it for ever.

    Of what was `built` on demand there are `rows` and `bytes`, of what was `unviewed` when it last was viewed (to the
    hour; null: never), of an event that was `set_aside` the projection, its position and what the database said, of a
    distribution that `moved` the build of the application.
    """

    kind: NewsKind
    key: str
    at: datetime
    product: str | None
    channel: str | None
    probe: str | None
    rows: int | None
    bytes: int | None
    viewed_at: datetime | None
    projection: str | None
    position: int | None
    error: str | None
    change: Change | None = None

    @property
    def news_id(self) -> UUID:
        """Return the id, which is the same in every feed and after every rebuild."""
        return uuid5(NAMES, self.key)


class NewsCursor(InstantCursor, frozen=True):
    """Cursor at the last news of a page: when it happened, and its key."""

    key: str


class NewsFilter(NamedTuple):
    """Product, probe and kinds of the news; None is any."""

    product: str | None = None
    probe: str | None = None
    kinds: tuple[NewsKind, ...] = KINDS


class NewsPage(NamedTuple):
    """News, newest first, and the cursor of the next page if there is one."""

    news: list[News]
    following: NewsCursor | None


async def read_news(
    connection: Connection, only: NewsFilter, now: datetime, limit: int, after: NewsCursor | None
) -> NewsPage:
    """Return the latest news as of now, or those after the page that the cursor ended.

    Distributions that moved are told of one probe that is followed by its name: to look at them all would take minutes.
    """
    place = (after.instant, after.key) if after else None
    asked = only.product, only.probe, list(only.kinds), now, *(place or (None, None)), limit + 1
    found = [News(**row) for row in await connection.fetch(query("feed", "news"), *asked, UNVIEWED)]
    if "moved" in only.kinds and only.product and only.probe:
        moves = await _moves(connection, only.product, only.probe)
        found += [one for one in moves if place is None or _place(one) < place]
        found.sort(key=_place, reverse=True)
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return NewsPage(page, NewsCursor(microseconds_of(last.at), last.key) if last else None)


async def _moves(connection: Connection, product: str, probe: str) -> list[News]:
    """Return the builds of the application at which the distribution of a probe moved, on each channel."""
    found = list[News]()
    for row in await connection.fetch(query("feed", "channels"), product, probe):
        changes = await find_changes(connection, Choice(product, row["channel"], probe))
        found += [_move(changes.choice, change) for change in changes.changes]
    return found


def _move(choice: Choice, change: Change) -> News:
    key = f"moved {choice.product} {choice.channel} {choice.probe} {choice.metric_key} {change.build_id}"
    at = datetime.strptime(change.build_id, HOUR_FORMAT).replace(tzinfo=UTC)
    of = choice.product, choice.channel, choice.probe
    return News("moved", key, at, *of, None, None, None, None, None, None, change)


def _place(one: News) -> tuple[datetime, str]:
    return one.at, one.key


async def news_revision(connection: Connection) -> asyncpg.Record:
    """Return what changes with news that no projection has."""
    [row] = await connection.fetch(query("feed", "revision"))
    return row
