"""Server with another way to record: `python -m bench.server null|single`.

null     answers at once with positions, without the database: what HTTP, JSON and the judging of events allow
single   a transaction and a commit of its own for each request: what group commit saves
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import count

import uvloop
from aiohttp import web

from usage_service.ingest.appending import Appended, Record, append
from usage_service.ingest.group_commit import Answer, Ingest
from usage_service.service import Service
from usage_service.shared.logs import configure_logs
from usage_service.shared.settings import ServerSettings, load_settings
from usage_service.web.keys import SERVICE
from usage_service.web.server import create_app


class NullIngest(Ingest):
    """Ingest that accepts every event and records none."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.pool, service.settings.queue_events, lambda: None)
        self._positions = count(1)

    async def submit(self, records: Sequence[Record]) -> list[Answer]:
        return [Appended(next(self._positions), "recorded") for _ in records]


class SingleIngest(Ingest):
    """Ingest that records each request by itself, as soon as a connection of the pool is free."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.pool, service.settings.queue_events, lambda: None)

    async def submit(self, records: Sequence[Record]) -> list[Answer]:
        async with self._pool.acquire(timeout=5) as connection:
            return list(await append(connection, records))


MODES: dict[str, type[NullIngest] | type[SingleIngest]] = {"null": NullIngest, "single": SingleIngest}


def main() -> None:
    settings, ingest = load_settings(ServerSettings, os.environ), MODES[sys.argv[1]]
    configure_logs(settings.log_level)

    async def change_ingest(app: web.Application) -> AsyncIterator[None]:
        app[SERVICE] = replace(app[SERVICE], ingest=ingest(app[SERVICE]))
        yield

    app = create_app(settings, lambda: sys.exit("a background task died"))
    app.cleanup_ctx.append(change_ingest)
    web.run_app(app, host=settings.host, port=settings.port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
