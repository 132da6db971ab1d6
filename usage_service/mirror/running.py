"""A process, or a task of a server, that keeps a mirror."""

from __future__ import annotations

import asyncio

import structlog

from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror.mirroring import MirrorLimits, opened_mirror
from usage_service.shared.bigquery.errors import WorkError
from usage_service.shared.errors import UserError
from usage_service.shared.lifetime import Lifetime
from usage_service.shared.postgres import UNAVAILABLE, Pool, open_pool
from usage_service.shared.schema import install_schema
from usage_service.shared.settings import MirrorSettings, ServerSettings
from usage_service.shared.tasks import Tasks
from usage_service.shared.threads import in_thread

ROLE, APPLICATION = "usage_server", "usage-service mirror"
RETRY_SECONDS = 10.0

log = structlog.get_logger(__name__)


def place_of(settings: MirrorSettings | ServerSettings) -> MirrorPlace:
    """Return the place of the mirror that the settings name."""
    place = MirrorPlace.of(settings)
    assert place is not None
    return place


def limits_of(settings: MirrorSettings | ServerSettings) -> MirrorLimits:
    """Return the limits of loads that the settings name."""
    return MirrorLimits(
        events=settings.mirror_events,
        seconds=settings.mirror_seconds,
        verify_seconds=settings.mirror_verify_seconds,
    )


async def keep_mirror(pool: Pool, database_url: str, place: MirrorPlace, limits: MirrorLimits) -> None:
    """Keep a mirror until cancelled, trying again where it cannot begin: a server records without one, too."""
    while True:
        try:
            async with opened_mirror(pool, database_url, place, limits) as mirror:
                log.info("mirroring", mirror=place.mirror)
                await mirror.run()
        except UserError as error:
            code = error.code if isinstance(error, WorkError) else "settings"
            log.error("mirror_cannot_begin", mirror=place.mirror, code=code, message=str(error))
        except UNAVAILABLE as error:
            log.warning("mirror_database_unavailable", error=repr(error))
        except Exception:
            log.exception("mirror_failed", mirror=place.mirror)
        await asyncio.sleep(RETRY_SECONDS)


async def run_mirror(settings: MirrorSettings) -> bool:
    """Keep a mirror until SIGTERM or SIGINT. Return False when it died; raise SettingsError without credentials."""
    lifetime = Lifetime()
    await in_thread(place_of(settings).client, "client of the mirror")
    if not await lifetime.completes(install_schema(settings.database_url)):
        return lifetime.healthy
    async with (
        open_pool(settings.database_url, role=ROLE, application=APPLICATION, size=2) as pool,
        Tasks(lifetime.died) as tasks,
    ):
        tasks.start("mirror", keep_mirror(pool, settings.database_url, place_of(settings), limits_of(settings)))
        await lifetime.wait()
    return lifetime.healthy
