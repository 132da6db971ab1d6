"""The parts of a running service, put together and taken down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from usage_service.announcer import CHANNEL, Announcer
from usage_service.folding import AT_ONCE, Runners
from usage_service.forgetting import forget_old_visitors
from usage_service.ingest import Ingest
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import Pool, open_pool
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import ServerSettings
from usage_service.shared.tasks import Tasks
from usage_service.tail import Tail
from usage_service.visitors import VisitorKeys
from usage_service.wire import Reader


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    settings: ServerSettings
    pool: Pool
    ingest: Ingest
    reader: Reader
    listener: Listener
    tail: Tail
    folded: Tail


@asynccontextmanager
async def open_service(settings: ServerSettings, died: Callable[[], None]) -> AsyncIterator[Service]:
    """A service with its background tasks running; `died` is called when one of them ends."""
    await install_schema(settings.database_url)
    options = {"role": "usage_server", "application": "usage-service"}
    async with (
        open_pool(settings.database_url, size=settings.pool_size, **options) as pool,
        open_pool(settings.database_url, size=3 + AT_ONCE, **options) as background,
        Tasks(died) as tasks,
    ):
        announcer = Announcer(background)
        ingest = Ingest(background, settings.queue_events, announcer.announce)
        tail, folded = Tail(), Tail()
        runners = Runners(background, folded.wake)

        def wake(_channel: str | None, _payload: str) -> None:
            tail.wake()
            runners.wake()

        listener = Listener(settings.listen_url, [CHANNEL], wake)
        tasks.start("listener", listener.run())
        tasks.start("announcer", announcer.run())
        tasks.start("ingest", ingest.run())
        tasks.start("projections", runners.run())
        visitors = VisitorKeys(settings.visitor_secret, settings.visitor_rotation_days)
        tasks.start("forgetting", forget_old_visitors(background, visitors))
        yield Service(settings, pool, ingest, Reader(visitors), listener, tail, folded)
