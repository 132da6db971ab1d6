"""Posts of events to a running service, in batches, which are tried again after transient errors."""

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
TRANSIENT = frozenset({429, 502, 503, 504})

log = structlog.get_logger(__name__)


class PostError(UserError):
    """The service cannot be reached or refuses the request; the message says what to do."""


@dataclass
class ImportStats:
    """The numbers of events by status, and the first refusals with their reasons."""

    statuses: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    def refuse(self, why: str) -> None:
        """Count a refusal; only the reasons of the first twenty are kept."""
        self.statuses["refused"] += 1
        if len(self.refusals) < 20:
            self.refusals.append(why)


class Poster:
    """Sends batches of events to a running service."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self.stats = ImportStats()

    async def post(self, events: list[dict[str, Any]], origins: list[str]) -> None:
        """Post a batch; `origins` has the file and line of each event, for the refusals."""
        status, answer = await self._send("/v1/events", msgspec.json.encode(events), "application/json")
        self._count(status, answer, origins)

    async def restore(self, lines: list[bytes], origins: list[str]) -> None:
        """Restore the events of an export's lines at their positions; `origins` has the file and line of each."""
        status, body = await self._send("/v1/events/restore", b"\n".join(lines), "application/x-ndjson")
        answer = msgspec.json.decode(body) if body else {}
        refused = answer.get("refused", [])
        if status != 200 and not refused:
            raise PostError(f"{self._url} answered {status}: {answer.get('detail')}")
        for item in refused:
            self.stats.refuse(_why(item, origins))
        restored = answer.get("restored", 0)
        self.stats.statuses["restored"] += restored
        self.stats.statuses["duplicate"] += len(lines) - restored - len(refused)

    async def _send(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        for attempt in range(MOST_TRIES):
            try:
                async with self._session.post(
                    self._url + path, data=body, headers={"Content-Type": content_type}
                ) as response:
                    if response.status not in TRANSIENT:
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
                self.stats.refuse(_why(item, origins))
            else:
                self.stats.statuses[item["status"]] += 1


def _why(item: dict[str, Any], origins: list[str]) -> str:
    """Return where a refused event is from, which field of it is wrong, and why."""
    index, error = item["index"], item["error"]
    pointer = (error.get("pointer") or "").removeprefix(f"/{index}")
    return f"{origins[index]}: {pointer} {error['detail']}".replace(":  ", ": ")


def open_session(token: str | None) -> aiohttp.ClientSession:
    """Return a client session that sends the token and waits 30 s at most."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))
