"""Answers from projections: as fresh as the caller asks for, with entity tags, a cache and single flight.

A route makes a Question of its parameters and returns `await answer(request, parameters, question)`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

from aiohttp import web

from usage_service.hidden_probes import hidden_revision
from usage_service.problems import Problem
from usage_service.projections.freshness import Positions
from usage_service.projections.state import Projection, Revision, read_states, snapshot
from usage_service.shared.postgres import Connection, Pool
from usage_service.web.access import needs_token
from usage_service.web.answer_cache import AnswerCache, SingleFlight
from usage_service.web.answers import Body, body_answer
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.freshness import FreshnessParameters, await_position, not_fresh
from usage_service.web.waiting import while_allowed

MOST_CACHED_BYTES = 32 * 1024 * 1024
Deferred: TypeAlias = Callable[[], Awaitable[Body]]
ANSWER_SECONDS = 45.0  # for waiting and reading together; one statement may take 30


@dataclass(frozen=True)
class Question(ABC):
    """Question whose answer depends on nothing but its fields and the rows that it reads.

    Equal questions over the same rows have the same answer, byte for byte. So the route resolves the clock and the
    settings into fields before it asks. A field that begins with _ is a means to answer, not part of the question.
    """

    @property
    @abstractmethod
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections that the answer is read from."""

    @abstractmethod
    async def answer(self, connection: Connection) -> Body | Deferred:
        """Return the answer, read from one snapshot of the database, or what makes it of what was read.

        A transaction that is idle for seconds holds a connection and is ended by the database: so what takes long to
        make is made after it.
        """

    @property
    def address(self) -> str | None:
        """Return where the API answers this question; None where pages only ask it."""
        return None

    async def other_revision(self, connection: Connection) -> object:
        """Return what changes with the rows it reads besides projections; raise Problem when there are none."""
        return ()

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """Return the entity tag of the answer."""
        asked = [getattr(self, field.name) for field in fields(self) if not field.name.startswith("_")]
        kind = type(self)
        return entity_tag(kind.__module__, kind.__qualname__, asked, revisions, await self.other_revision(connection))


class ListingQuestion(Question):
    """Question whose answer leaves hidden probes out, or tells what hides one."""

    async def other_revision(self, connection: Connection) -> object:
        """Return the revision of the patterns that hide probes."""
        return await hidden_revision(connection)


class Version(NamedTuple):
    """Version of an answer: its entity tag, and the position up to which it has seen every event."""

    tag: str
    position: int


class Answered(NamedTuple):
    """Answer and its version."""

    version: Version
    body: Body


class Answering:
    """Answers of one service: the cache of them, and the positions of the projections that requests wait for."""

    def __init__(self, pool: Pool, positions: Positions, most_cached_bytes: int = MOST_CACHED_BYTES) -> None:
        self._pool = pool
        self._cache = AnswerCache(most_cached_bytes)
        self._single_flight: SingleFlight[Answered] = SingleFlight()
        self.positions = positions

    async def version(self, question: Question) -> Version:
        """Return the version of the answer as of now."""
        async with self._pool.acquire(timeout=5) as connection:
            states = await read_states(connection, *question.reads)
            try:
                return Version(await question.tag(connection, states.revisions), states.position)
            except Problem as problem:
                problem.headers["Log-Position"] = str(states.position)
                raise

    async def answer(self, question: Question, version: Version) -> Answered:
        """Return the answer of this version, or a newer one."""
        cached = self._cache.get(version.tag)
        if cached is not None:
            return Answered(version, cached)
        (tag, position), body = await self._single_flight.share(version.tag, lambda: self._read(question))
        # A shared read may have begun before the latest events were folded; the equal tag says they changed nothing.
        return Answered(Version(tag, max(position, version.position)), body)

    async def _read(self, question: Question) -> Answered:
        async with snapshot(self._pool, *question.reads) as seen:
            version = Version(await question.tag(seen.connection, seen.states.revisions), seen.states.position)
            found = self._cache.get(version.tag) or await question.answer(seen.connection)
        body = found if isinstance(found, Body) else await found()
        self._cache.put(version.tag, body)
        return Answered(version, body)


ANSWERING = web.AppKey("answering", Answering)


async def answer(request: web.Request, asked: FreshnessParameters, question: Question) -> web.Response:
    """Return the answer (200), or 304 when the caller has it; raise a Problem (503) when it is not fresh in time."""
    answering = request.app[ANSWERING]
    async with asyncio.timeout(asked.wait + ANSWER_SECONDS):
        if asked.at_least:
            await while_allowed(request, await_position(answering.positions, question.reads, asked))
        version = await answering.version(question)
        if version.position < asked.at_least:  # after a crash a projection may have to fold events again
            raise not_fresh(asked.at_least, dict.fromkeys(question.reads, version.position))
        if is_matched(request.headers.getall("If-None-Match", ()), version.tag):
            return web.Response(status=304, headers=_headers(request, version))
        found = await answering.answer(question, version)
    following = {"Link": f'<{found.body.following}>; rel="next"'} if found.body.following else {}
    return body_answer(found.body, headers=_headers(request, found.version) | following)


def _headers(request: web.Request, version: Version) -> dict[str, str]:
    headers = {"ETag": version.tag, "Log-Position": str(version.position), "Cache-Control": "no-cache"}
    return headers | ({"Vary": "Authorization"} if needs_token(request, "read") else {})
