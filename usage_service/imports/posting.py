"""Posts of events to a running service, in batches, which are tried again after transient errors."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import msgspec
import structlog

from usage_service.imports.events_to_send import EventToSend
from usage_service.imports.refusals import Refusal
from usage_service.shared.errors import AwayError, UserError
from usage_service.shared.remote import does_not_answer
from usage_service.shared.service_errors import reason

MOST_TRIES = 8
FIRST_TRIES = 3  # of a service that has not answered yet
FIRST_WAIT = 0.2
LONGEST_WAIT = 60.0
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
OF_ITS_CONTENT = frozenset({400, 413, 422})  # what another content would not be answered with
_random = random.SystemRandom()  # forks do not draw alike

log = structlog.get_logger(__name__)


class PostError(UserError):
    """The service cannot be reached or refuses the request; the message says what to do."""


class PostAwayError(PostError, AwayError):
    """The service does not take what is sent now."""

    exit_code = AwayError.exit_code


class Outcome(NamedTuple):
    """What became of an event: recorded, duplicate or restored, or the reason why it was refused."""

    status: str
    refusal: Refusal | None = None


class _Error(msgspec.Struct):
    detail: str
    pointer: str | None = None


class _Item(msgspec.Struct):
    index: int
    status: str = "refused"
    error: _Error | None = None

    def outcome(self) -> Outcome:
        if self.error is None:
            return Outcome(self.status)
        field = (self.error.pointer or "").removeprefix(f"/{self.index}").lstrip("/")
        return Outcome("refused", Refusal(field or None, self.error.detail))


class _Answer(msgspec.Struct):
    """What of the answers of both routes, and of their problems, is needed."""

    events: list[_Item] | None = None
    restored: int = 0
    refused: list[_Item] | None = None


_answer = msgspec.json.Decoder(_Answer)


class Poster:
    """Sends batches of events to a running service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._has_answered = False

    async def post(self, events: Sequence[EventToSend]) -> list[Outcome]:
        """Post events, and return what became of each."""
        body = b"[" + b",".join(event.body for event in events) + b"]"
        status, answered = await self._send("/v1/events", body, "application/json")
        answer = _decoded(answered)
        if answer and answer.events and len(answer.events) == len(events):
            return [
                Outcome("duplicate") if item.status == "conflict" and event.is_timeless else item.outcome()
                for event, item in zip(events, answer.events, strict=True)
            ]
        if len(events) == 1:
            return [self._refused_alone(status, answered)]
        self._check_content(status, answered)
        return [outcome for half in _halves(events) for outcome in await self.post(half)]

    async def restore(self, events: Sequence[EventToSend]) -> list[Outcome]:
        """Restore events of an export at their positions, and return what became of each, new ones first."""
        body = b"\n".join(event.body for event in events)
        status, answered = await self._send("/v1/events/restore", body, "application/x-ndjson")
        answer = _decoded(answered)
        if answer and (status in (200, 207) or answer.refused):
            return _restored(len(events), answer)
        if len(events) == 1:
            return [self._refused_alone(status, answered)]
        self._check_content(status, answered)
        return [outcome for half in _halves(events) for outcome in await self.restore(half)]

    def _refused_alone(self, status: int, answered: bytes) -> Outcome:
        self._check_content(status, answered)
        return Outcome("refused", Refusal(None, f"{self._url} answered {status}: {reason(status, answered)}"))

    def _check_content(self, status: int, answered: bytes) -> None:
        """Raise PostError for an answer that is not about what was sent."""
        if status not in OF_ITS_CONTENT:
            raise PostError(f"{self._url} answered {status}: {reason(status, answered)}")

    async def _send(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        why = ""
        for attempt in range(MOST_TRIES):
            if attempt == FIRST_TRIES and not self._has_answered:
                break
            wait = min(10.0, FIRST_WAIT * 2**attempt) * _random.uniform(0.5, 1)
            try:
                async with self._session.post(
                    self._url + path, data=body, headers={"Content-Type": content_type}
                ) as response:
                    self._has_answered = True
                    if response.status not in TRANSIENT:
                        return response.status, await response.read()
                    why = f"answered {response.status}"
                    wait = max(wait, _retry_after(response))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                why = _why(error)
            if self._has_answered:
                log.warning("post_again", why=why, in_seconds=round(wait, 2))
            await asyncio.sleep(wait)
        if not self._has_answered:
            raise PostAwayError(does_not_answer(self._url, why))
        raise PostAwayError(
            f"{self._url} did not take the events after {MOST_TRIES} tries ({why}); run the import again: it goes on"
        )


def _why(error: Exception) -> str:
    """Return why a request got no answer, without the connection as programmers see it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        known = error.os_error.errno
        return os.strerror(known) if known and known > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__


def _restored(events: int, answer: _Answer) -> list[Outcome]:
    refused = {item.index: item.outcome() for item in answer.refused or []}
    new = iter(range(answer.restored))
    statuses = (Outcome("duplicate" if next(new, None) is None else "restored") for _ in range(events - len(refused)))
    return [refused[index] if index in refused else next(statuses) for index in range(events)]


def _decoded(answered: bytes) -> _Answer | None:
    try:
        return _answer.decode(answered)
    except msgspec.MsgspecError:
        return None


def _halves(events: Sequence[EventToSend]) -> tuple[Sequence[EventToSend], Sequence[EventToSend]]:
    half = len(events) // 2
    return events[:half], events[half:]


def _retry_after(response: aiohttp.ClientResponse) -> float:
    given = response.headers.get("Retry-After", "")
    return min(LONGEST_WAIT, float(given)) if given.isdecimal() else 0.0


def open_session(token: str | None) -> aiohttp.ClientSession:
    """Return a client session that sends the token and waits 30 s at most."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))
