"""Posts events to a running service: batches, a few at a time, trying again what may pass."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import structlog

from usage_service.shared.errors import UserError

MOST_TRIES = 8
PASSING = frozenset({429, 502, 503, 504})

log = structlog.get_logger(__name__)


class PostError(UserError):
    """The service cannot be reached or does not take the events; the message says what to do."""


@dataclass
class Tally:
    """How many events became what, and the first refusals with their reasons."""

    statuses: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    def refuse(self, why: str) -> None:
        """Counts a refusal; only the first twenty are kept in words."""
        self.statuses["refused"] += 1
        if len(self.refusals) < 20:
            self.refusals.append(why)


class Poster:
    """Sends batches of events to a running service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self.tally = Tally()

    async def post(self, events: list[dict[str, Any]], origins: list[str]) -> None:
        """Posts one batch; `origins` says where each event is from, for the refusals."""
        status, answer = await self._send("/v1/events", msgspec.json.encode(events), "application/json")
        self._count(status, answer, origins)

    async def restore(self, lines: list[bytes]) -> None:
        """Puts the lines of an export back at their positions."""
        status, body = await self._send("/v1/events/restore", b"\n".join(lines), "application/x-ndjson")
        answer = msgspec.json.decode(body) if body else {}
        if status != 200:
            raise PostError(f"{self._url} answered {status}: {answer.get('detail')}")
        self.tally.statuses["restored"] += answer["restored"]
        self.tally.statuses["duplicate"] += len(lines) - answer["restored"]

    async def _send(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        for attempt in range(MOST_TRIES):
            try:
                async with self._session.post(
                    self._url + path, data=body, headers={"Content-Type": content_type}
                ) as response:
                    if response.status not in PASSING:
                        return response.status, await response.read()
                    why = f"answered {response.status}"
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                why = repr(error)
            wait = min(10.0, 0.2 * 2**attempt) * random.uniform(0.5, 1)
            log.warning("post_again", why=why, in_seconds=round(wait, 2))
            await asyncio.sleep(wait)
        raise PostError(f"{self._url} did not take the events after {MOST_TRIES} tries ({why}); run the import again")

    def _count(self, status: int, body: bytes, origins: list[str]) -> None:
        answer = msgspec.json.decode(body) if body else {}
        if status not in (201, 207) and "events" not in answer:
            raise PostError(f"{self._url} answered {status}: {answer.get('detail')}")
        for item in answer["events"]:
            if "error" in item:
                self.tally.refuse(f"{origins[item['index']]}: {item['error']['detail']}")
            else:
                self.tally.statuses[item["status"]] += 1


def open_session(token: str | None) -> aiohttp.ClientSession:
    """A client session that sends the token and waits 30 s at most."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))
