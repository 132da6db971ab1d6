"""GET /v1/sessions and /v1/sessions/{visitor}/{started_at}: how people work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.events import Instant, Product
from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import Bots, Session, TimelineEvent, find_session, list_sessions, timeline
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, problem, tagged
from usage_service.web.parameters import parameters_from, query_parameters
from usage_service.windows import TimeRange, time_range_between


class SessionParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Sessions that began in a time range; bots are left out unless asked for.

    The time range is the last 7 days, unless said otherwise. It ends a day from now, because clocks ahead of ours are
    taken up to a day, and with the hour, so that who asks again within the hour asks the same.
    """

    product: Product | None = None
    since: Instant | None = None
    until: Instant | None = None
    bots: Bots = "exclude"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class SessionsAnswer(Struct, frozen=True):
    """The latest sessions that began in a time range, and how many there are in all."""

    since: datetime
    until: datetime
    total: int
    sessions: list[Session]


@dataclass(frozen=True)
class SessionsQuestion(Question):
    """The latest sessions of a time range."""

    time_range: TimeRange
    product: str | None
    bots: Bots
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Nothing but sessions."""
        return ("sessions",)

    async def answer(self, connection: Connection) -> Body:
        """The sessions, and how many there are in all."""
        since, until = self.time_range
        sessions, total = await list_sessions(connection, since, until, self.product, self.bots, self.limit)
        return as_json(SessionsAnswer(since, until, total, sessions))


@described(*tagged(json_of(SessionsAnswer)), query=SessionParameters)
async def get_sessions(request: web.Request) -> web.Response:
    """Sessions, latest first, and how many there are in all."""
    asked = query_parameters(request, SessionParameters)
    time_range = time_range_between(asked.since, asked.until, datetime.now(UTC))
    return await answer(request, asked, SessionsQuestion(time_range, asked.product, asked.bots, asked.limit))


class SessionPath(Struct):
    """The session that the path names: whose, and when it began."""

    visitor: UUID
    started_at: Instant


class TimelineParameters(FreshnessParameters, forbid_unknown_fields=True):
    """How many of the session's events at most."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class TimelineAnswer(Struct, frozen=True):
    """A session and its events, in the order in which they occurred."""

    session: Session
    timeline: list[TimelineEvent]


@dataclass(frozen=True)
class TimelineQuestion(Question):
    """One session and its events."""

    visitor: UUID
    started_at: datetime
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """The session, and which events it is made of."""
        return ("sessions", "journeys")

    async def other_revision(self, connection: Connection) -> Session:
        """The session itself."""
        session = await find_session(connection, self.visitor, self.started_at)
        if session is None:
            detail = f"visitor {self.visitor} began none at {self.started_at.isoformat()}; see /v1/sessions"
            raise Problem(404, "Unknown session", detail)
        return session

    async def answer(self, connection: Connection) -> Body:
        """The session, and its events in the order in which they occurred."""
        session = await self.other_revision(connection)
        return as_json(TimelineAnswer(session, await timeline(connection, session, self.limit)))


@described(
    *tagged(json_of(TimelineAnswer)),
    problem(404, "the visitor began no session then"),
    query=TimelineParameters,
    path=SessionPath,
)
async def get_session(request: web.Request) -> web.Response:
    """One session with its events; a late event may have moved its beginning, or joined it to another."""
    path = parameters_from(dict(request.match_info), SessionPath)
    asked = query_parameters(request, TimelineParameters)
    return await answer(request, asked, TimelineQuestion(path.visitor, path.started_at.astimezone(UTC), asked.limit))
