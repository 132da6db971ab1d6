"""Group commit of builds that end without rows: those that end at about the same time share a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

Outcome = TypeVar("Outcome")


class Completion(NamedTuple):
    """A build that is over without rows, the attempt that holds it, and the bytes that the attempt read."""

    build_id: UUID
    attempt: int
    bytes_read: int


EndAll = Callable[[Sequence[Completion]], Awaitable[Mapping[UUID, Outcome]]]
"""Ends the builds that their attempts still hold, in one transaction, and returns what came of each of these."""


class Completions(Generic[Outcome]):
    """A queue of completions: those that come while a transaction is under way go together into the next."""

    def __init__(self, end_all: EndAll[Outcome]) -> None:
        self._end_all = end_all
        self._waiting: list[tuple[Completion, asyncio.Future[Outcome | None]]] = []
        self._turn = asyncio.Lock()

    async def end(self, completion: Completion) -> Outcome | None:
        """End the build; return None when its attempt does not hold it. Raise what `end_all` raises."""
        over: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((completion, over))
        try:
            async with self._turn:
                if not over.done():  # the completion before may have taken it along
                    await self._end_those_waiting()
            return await over
        finally:
            over.cancel() or over.exception()  # a caller that was cancelled itself wants no answer

    async def _end_those_waiting(self) -> None:
        together, self._waiting = [pair for pair in self._waiting if not pair[1].done()], []
        failure: Exception = TimeoutError("the transaction was stopped: it is not known whether the build is over")
        try:
            ended = await self._end_all([completion for completion, _ in together])
        except Exception as error:
            failure = error
        else:
            for completion, over in together:
                _answer(over, ended.get(completion.build_id))
        finally:
            for _, over in together:
                _answer(over, failure)


def _answer(over: asyncio.Future[Outcome | None], outcome: Outcome | Exception | None) -> None:
    if over.done():
        return
    if isinstance(outcome, Exception):
        over.set_exception(outcome)
    else:
        over.set_result(outcome)
