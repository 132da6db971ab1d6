"""GET /v1/sessions: list sessions; /v1/sessions/{visitor}/{started_at}: one session and its events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import CursorText
from usage_service.events import Instant, Product
from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import (
    Bots,
    Session,
    SessionCursor,
    Timeline,
    TimelineEvent,
    find_session,
    find_typical,
    list_sessions,
    timeline,
)
from usage_service.web.addresses import address, path_of
from usage_service.web.answering import ListingQuestion, Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, listed, problem, tagged
from usage_service.web.parameters import cursor_of, parameters_from, query_parameters
from usage_service.windows import Time, TimeRange, time_range_between


class SessionParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Sessions that began in a time range, without bots by default.

    The time range is the last 7 days by default. It ends a day from now, because events may be up to a day ahead of
    the server's clock. It ends with the hour, so that a request within the same hour has the same time range.
    `cursor` is from the `next` link of an earlier answer, or from its Link header: the list goes on from there.
    """

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    cursor: CursorText | None = None


class SessionsAnswer(Struct, frozen=True):
    """Latest sessions that began in a time range, and their `total` number; `next` is the link to those that follow."""

    since: datetime
    until: datetime
    total: int
    sessions: list[Session]
    next: str | None


@dataclass(frozen=True)
class SessionsQuestion(ListingQuestion):
    """Latest sessions of a time range, or those after a cursor."""

    time_range: TimeRange
    product: str | None
    bots: Bots
    limit: int
    after: SessionCursor | None = None

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of sessions."""
        return ("sessions",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        return self._at(self.after)

    def _at(self, cursor: SessionCursor | None) -> str:
        since, until = self.time_range
        asked = {"product": self.product, "since": since, "until": until, "bots": self.bots, "limit": self.limit}
        return address("/v1/sessions", **asked, cursor=cursor)

    async def answer(self, connection: Connection) -> Body:
        """Return the sessions, their total number, and the link to the next ones if there are any."""
        only = (self.time_range, self.product, self.bots)
        found = await list_sessions(connection, *only, self.limit, self.after)
        following = self._at(found.following) if found.following else None
        return as_json(SessionsAnswer(*self.time_range, found.total, found.sessions, following), following)


@described(*listed(json_of(SessionsAnswer)), query=SessionParameters, table="sessions")
async def get_sessions(request: web.Request) -> web.Response:
    """List sessions, latest first, and their total number."""
    asked = query_parameters(request, SessionParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    after = cursor_of(asked.cursor, SessionCursor)
    return await answer(request, asked, SessionsQuestion(time_range, asked.product, asked.bots, asked.limit, after))


class TypicalParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Sessions that began in a time range (as in /v1/sessions), and how many events of the session to list."""

    product: Product | None = None
    since: Time | None = None
    until: Time | None = None
    bots: Bots = "exclude"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class TypicalAnswer(Struct, frozen=True):
    """Session that is nearest to the medians of a time range, and its events; null when there was no session.

    `dropped` of its first events are not in the log any more.
    """

    since: datetime
    until: datetime
    session: Session | None
    timeline: list[TimelineEvent]
    dropped: int


@dataclass(frozen=True)
class TypicalQuestion(Question):
    """Session of a time range that is nearest to the medians, and its events."""

    time_range: TimeRange
    product: str | None
    bots: Bots
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of sessions and of their events."""
        return ("sessions", "journeys")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        since, until = self.time_range
        asked = {"product": self.product, "since": since, "until": until, "bots": self.bots, "limit": self.limit}
        return address("/v1/sessions/typical", **asked)

    async def answer(self, connection: Connection) -> Body:
        """Return the session, and its events in the order in which they occurred."""
        since, until = self.time_range
        session = await find_typical(connection, since, until, self.product, self.bots)
        events = await timeline(connection, session, self.limit) if session else Timeline([], 0)
        return as_json(TypicalAnswer(since, until, session, *events))


@described(*tagged(json_of(TypicalAnswer)), query=TypicalParameters, table="timeline")
async def get_typical_session(request: web.Request) -> web.Response:
    """Get the session whose length and depth are nearest to the medians, as an example of how people work."""
    asked = query_parameters(request, TypicalParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    return await answer(request, asked, TypicalQuestion(time_range, asked.product, asked.bots, asked.limit))


class SessionPath(Struct):
    """Session that the path names: its visitor, and when it began."""

    visitor: UUID
    started_at: Instant


class TimelineParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Largest number of the session's events to list."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class TimelineAnswer(Struct, frozen=True):
    """Session and its events as they occurred; `dropped` of the first ones are not in the log any more."""

    session: Session
    timeline: list[TimelineEvent]
    dropped: int


@dataclass(frozen=True)
class TimelineQuestion(Question):
    """One session and its events."""

    visitor: UUID
    started_at: datetime
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of sessions and of their events."""
        return ("sessions", "journeys")

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        session = path_of(str(self.visitor), self.started_at.isoformat())
        return address(f"/v1/sessions{session}", limit=self.limit)

    async def other_revision(self, connection: Connection) -> Session:
        """Return the session; raise a Problem (404) when there is none."""
        session = await find_session(connection, self.visitor, self.started_at)
        if session is None:
            detail = f"visitor {self.visitor} began none at {self.started_at.isoformat()}; see /v1/sessions"
            raise Problem(404, "Unknown session", detail)
        return session

    async def answer(self, connection: Connection) -> Body:
        """Return the session, and its events in the order in which they occurred."""
        session = await self.other_revision(connection)
        return as_json(TimelineAnswer(session, *await timeline(connection, session, self.limit)))


@described(
    *tagged(json_of(TimelineAnswer)),
    problem(404, "no session of this visitor began then"),
    query=TimelineParameters,
    path=SessionPath,
    table="timeline",
)
async def get_session(request: web.Request) -> web.Response:
    """Get a session and its events.

    A late event may move the beginning of a session, or join two sessions: then the old URL is a 404.
    """
    path = parameters_from(dict(request.match_info), SessionPath)
    asked = query_parameters(request, TimelineParameters)
    return await answer(request, asked, TimelineQuestion(path.visitor, path.started_at.astimezone(UTC), asked.limit))
