"""Group commit of builds that end without rows: those that end at about the same time share a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from uuid import UUID


class Completion(NamedTuple):
    """A build that is over without rows, the attempt that holds it, and the bytes that the attempt read."""

    build_id: UUID
    attempt: int
    bytes_read: int


EndAll = Callable[[Sequence[Completion]], Awaitable[set[UUID]]]
"""Ends the builds that their attempts still hold, in one transaction, and returns the ids of these."""


class Completions:
    """A queue of completions: those that come while a transaction is under way go together into the next."""

    def __init__(self, end_all: EndAll) -> None:
        self._end_all = end_all
        self._waiting: list[tuple[Completion, asyncio.Future[bool]]] = []
        self._turn = asyncio.Lock()

    async def end(self, completion: Completion) -> bool:
        """End the build; return False when its attempt does not hold it. Raise what `end_all` raises."""
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
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
                _answer(over, completion.build_id in ended)
        finally:
            for _, over in together:
                _answer(over, failure)


def _answer(over: asyncio.Future[bool], outcome: bool | Exception) -> None:
    if over.done():
        return
    if isinstance(outcome, Exception):
        over.set_exception(outcome)
    else:
        over.set_result(outcome)
