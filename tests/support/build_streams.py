"""Server-Sent Events of builds, read as a browser reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiohttp import ClientResponse

from tests.support.servers import Client, JsonObject

Seen = list[tuple[int, str]]


class Stream:
    """The events received so far, with their positions and types."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.retry: list[str] = []
        self.comments = 0
        self.seen: Seen = []
        self.data: list[JsonObject] = []

    async def read(self, number: int | None = None, comments: int | None = None) -> Seen:
        """Read until so many events or comments were received in all, or to the end."""
        fields: dict[str, str] = {}
        while not (len(self.seen) == number or self.comments == comments):
            line = (await self.response.content.readline()).decode()
            if not line:
                break
            name, _, value = line.rstrip("\n").partition(": ")
            if line == "\n":
                self._dispatch(fields)
                fields = {}
            elif name:
                fields[name] = value
            else:
                self.comments += 1
        return self.seen

    def _dispatch(self, fields: dict[str, str]) -> None:
        if "retry" in fields:
            self.retry.append(fields["retry"])
        if "id" in fields:
            self.seen.append((int(fields["id"]), fields["event"]))
            self.data.append(json.loads(fields["data"]))

    @property
    def last_id(self) -> str:
        """Return the Last-Event-ID that a reconnecting browser sends."""
        return str(self.seen[-1][0])


@asynccontextmanager
async def following(client: Client, build: UUID, last_id: str | None = None, query: str = "") -> AsyncIterator[Stream]:
    """Open the stream of a build after the position that a reconnecting browser sends."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with asyncio.timeout(30), client.get(f"/v1/builds/{build}/events{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
