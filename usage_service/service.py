"""The parts of a running service, started and stopped together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from usage_service.builds import watching
from usage_service.builds.fresh import FreshBuilds
from usage_service.builds.nights import NightWithJobs
from usage_service.builds.requests import Build
from usage_service.builds.watching import Watch, watch_builds, watch_nights
from usage_service.ingest import group_commit
from usage_service.ingest.group_commit import Announcer, Ingest
from usage_service.ingest.masking import Masking
from usage_service.ingest.parsing import Reader
from usage_service.ingest.visitors import VisitorKeys, forget_old_visitors
from usage_service.log.following import GrowthSignal
from usage_service.projections.runner import AT_ONCE, Runners
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import Pool, open_pool
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import ServerSettings
from usage_service.shared.stream_limit import StreamLimit
from usage_service.shared.tasks import Tasks

MOST_STREAMS, MOST_STREAMS_EACH = 500, 250  # in all, and of one token
MOST_ARROW_READINGS, MOST_ARROW_READINGS_EACH = 16, 8  # each has a connection to PostgreSQL of its own, and a thread
MOST_TAILS, MOST_TAILS_EACH = 100, 50  # each reads whenever the log has grown
MOST_MIRROR_READINGS, MOST_MIRROR_READINGS_EACH = 4, 2  # each costs bytes of BigQuery, and a thread
CHANNELS = (group_commit.CHANNEL, watching.CHANNEL, watching.NIGHT_CHANNEL)


@dataclass(frozen=True)
class Service:
    """The parts of a running service that the routes use: their pool of connections is `pool`."""

    settings: ServerSettings
    pool: Pool
    background: Pool
    ingest: Ingest
    reader: Reader
    listener: Listener
    log_growth: GrowthSignal
    folded_growth: GrowthSignal
    watch: Watch[Build]
    night_watch: Watch[NightWithJobs]
    streams: StreamLimit
    fresh: FreshBuilds
    mirror_readings: StreamLimit
    arrow_readings: StreamLimit
    tails: StreamLimit


@asynccontextmanager
async def open_service(settings: ServerSettings, died: Callable[[], None]) -> AsyncIterator[Service]:
    """Run a service with its background tasks, and call `died` when one of them ends."""
    await install_schema(settings.database_url)
    options = {"role": "usage_server", "application": "usage-service"}
    async with (
        open_pool(settings.database_url, size=settings.pool_size, **options) as pool,
        open_pool(settings.database_url, size=5 + AT_ONCE, **options) as background,
        Tasks(died) as tasks,
    ):
        announcing = Announcer(background)
        ingest = Ingest(background, settings.queue_events, announcing.announce)
        log_growth, folded_growth = GrowthSignal(), GrowthSignal()
        watch, night_watch = watch_builds(background), watch_nights(background)
        runners = Runners(background, folded_growth.wake)
        listener = Listener(settings.listen_url, CHANNELS, _waker(log_growth, runners, watch, night_watch))
        tasks.start("listener", listener.run())
        tasks.start("announcer", announcing.run())
        tasks.start("ingest", ingest.run())
        tasks.start("recording health", ingest.health.run())
        tasks.start("projections", runners.run())
        tasks.start("build watch", watch.run())
        tasks.start("night watch", night_watch.run())
        visitors = VisitorKeys(settings.visitor_secret, settings.visitor_rotation_days)
        tasks.start("forgetting", forget_old_visitors(background, visitors))
        yield Service(
            settings,
            pool,
            background,
            ingest,
            Reader(visitors, Masking(settings.kept_names)),
            listener,
            log_growth,
            folded_growth,
            watch,
            night_watch,
            StreamLimit(MOST_STREAMS, MOST_STREAMS_EACH),
            FreshBuilds(),
            StreamLimit(MOST_MIRROR_READINGS, MOST_MIRROR_READINGS_EACH),
            StreamLimit(MOST_ARROW_READINGS, MOST_ARROW_READINGS_EACH),
            StreamLimit(MOST_TAILS, MOST_TAILS_EACH),
        )


def _waker(
    log_growth: GrowthSignal, runners: Runners, watch: Watch[Build], night_watch: Watch[NightWithJobs]
) -> Callable[[str | None, str], None]:
    """Return the function for the listener to call: a notification wakes those whom it concerns, a reconnect all."""
    watches: dict[str | None, Watch[Build] | Watch[NightWithJobs]]
    watches = {watching.CHANNEL: watch, watching.NIGHT_CHANNEL: night_watch}

    def wake(channel: str | None, payload: str) -> None:
        if channel in watches:
            watches[channel].hear(payload)
            return
        if channel is None:
            watch.hear_any()
            night_watch.hear_any()
        log_growth.wake()
        runners.wake()

    return wake
