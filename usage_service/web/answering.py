"""How a question is answered from projections: as fresh as asked for, not again to who has the answer, once for all.

A route makes a Question of its parameters and returns `await answer(request, parameters, question)`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import NamedTuple

from aiohttp import web

from usage_service.problems import Problem
from usage_service.projections.freshness import Positions
from usage_service.projections.state import Projection, Revision, read_states, snapshot
from usage_service.shared.postgres import Connection, Pool
from usage_service.web.access import needs_token
from usage_service.web.answers import Body, body_answer
from usage_service.web.etags import entity_tag, is_matched
from usage_service.web.freshness import FreshnessParameters, await_position, not_fresh
from usage_service.web.kept_answers import Flights, Kept

MOST_KEPT_BYTES = 32 * 1024 * 1024
ANSWER_SECONDS = 45.0  # for all attempts together; a statement may take 30


@dataclass(frozen=True)
class Question(ABC):
    """Whoever asks a question with the same fields over the same rows gets the same answer, byte for byte.

    So nothing else may flow into `answer`: the route resolves the clock and the settings into fields before. A field
    that begins with _ is a means to answer, no part of the question.
    """

    @property
    @abstractmethod
    def reads(self) -> tuple[Projection, ...]:
        """The projections that the answer is made of."""

    @abstractmethod
    async def answer(self, connection: Connection) -> Body:
        """The answer, from one consistent view of the rows."""

    async def other_revision(self, connection: Connection) -> object:
        """What changes when rows do that it reads besides projections; raises Problem when there are none."""
        return ()

    async def tag(self, connection: Connection, revisions: tuple[Revision, ...]) -> str:
        """The entity tag of the answer."""
        asked = [getattr(self, field.name) for field in fields(self) if not field.name.startswith("_")]
        kind = type(self)
        return entity_tag(kind.__module__, kind.__qualname__, asked, revisions, await self.other_revision(connection))


class Version(NamedTuple):
    """An answer that can be had: its entity tag, and up to where it has seen every event."""

    tag: str
    position: int


class Answered(NamedTuple):
    """An answer that is there."""

    version: Version
    body: Body


class Answering:
    """What the questions of one service share: the positions waited for, and the answers kept."""

    def __init__(self, pool: Pool, positions: Positions, most_kept_bytes: int = MOST_KEPT_BYTES) -> None:
        self._pool = pool
        self._kept = Kept(most_kept_bytes)
        self._flights: Flights[Answered] = Flights()
        self.positions = positions

    async def version(self, question: Question) -> Version:
        """Which answer there is now."""
        async with self._pool.acquire(timeout=5) as connection:
            states = await read_states(connection, *question.reads)
            try:
                return Version(await question.tag(connection, states.revisions), states.position)
            except Problem as problem:
                problem.headers["Log-Position"] = str(states.position)
                raise

    async def answer(self, question: Question, version: Version) -> Answered:
        """This answer, or one that is newer."""
        kept = self._kept.get(version.tag)
        if kept is not None:
            return Answered(version, kept)
        (tag, position), body = await self._flights.share(version.tag, lambda: self._compute(question))
        # Who computed it for us may have begun before events were folded that changed nothing here.
        return Answered(Version(tag, max(position, version.position)), body)

    async def _compute(self, question: Question) -> Answered:
        async with snapshot(self._pool, *question.reads) as seen:
            version = Version(await question.tag(seen.connection, seen.states.revisions), seen.states.position)
            body = self._kept.get(version.tag) or await question.answer(seen.connection)
        self._kept.put(version.tag, body)
        return Answered(version, body)


ANSWERING = web.AppKey("answering", Answering)


async def answer(request: web.Request, asked: FreshnessParameters, question: Question) -> web.Response:
    """200, or 304 to who has this answer already; 503 where it is not as fresh as asked for in time."""
    answering = request.app[ANSWERING]
    async with asyncio.timeout(asked.wait + ANSWER_SECONDS):
        await await_position(answering.positions, question.reads, asked)
        version = await answering.version(question)
        if version.position < asked.at_least:  # a database that crashed may have to fold again
            raise not_fresh(asked.at_least, dict.fromkeys(question.reads, version.position))
        if is_matched(request.headers.getall("If-None-Match", ()), version.tag):
            return web.Response(status=304, headers=_headers(request, version))
        found = await answering.answer(question, version)
    return body_answer(found.body, headers=_headers(request, found.version))


def _headers(request: web.Request, version: Version) -> dict[str, str]:
    headers = {"ETag": version.tag, "Log-Position": str(version.position), "Cache-Control": "no-cache"}
    return headers | ({"Vary": "Authorization"} if needs_token(request, "read") else {})
