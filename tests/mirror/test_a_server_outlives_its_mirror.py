"""A server that keeps a mirror records on while that cannot begin, whatever the reason, and keeps its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tests.conftest import SECRET
from usage_service.log.mirrored import MirrorPlace
from usage_service.mirror import running
from usage_service.mirror.mirroring import MirrorLimits
from usage_service.mirror.running import limits_of
from usage_service.shared.bigquery.errors import TransientWorkError
from usage_service.shared.postgres import Pool
from usage_service.shared.settings import ServerSettings, SettingsError, load_settings

FAILURES = [SettingsError("no credentials"), TransientWorkError("busy", "later"), KeyError("ours"), OSError("away")]


class Kept:
    """Mirror that runs at last."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()

    async def run(self) -> None:
        self.runs.set()
        await asyncio.Event().wait()


async def test_it_is_tried_again_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, kept = list(FAILURES), Kept()

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Kept]:
        if failures:
            raise failures.pop(0)
        yield kept

    monkeypatch.setattr(running, "opened_mirror", opened)
    monkeypatch.setattr(running, "RETRY_SECONDS", 0)
    pool = cast("Pool", None)
    keeping = asyncio.create_task(running.keep_mirror(pool, "", MirrorPlace("a-project.b"), MirrorLimits()))
    runs = asyncio.create_task(kept.runs.wait())
    await asyncio.wait({keeping, runs}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert kept.runs.is_set()
    keeping.cancel()


def test_the_limits_of_its_settings_are_kept() -> None:
    told = {"EVENTS": "1000", "SECONDS": "5", "VERIFY_SECONDS": "60", "HERE": "true"}
    environ = {f"USAGE_SERVICE_MIRROR_{name}": value for name, value in told.items()}
    environ |= {"DATABASE_URL": "postgresql://nowhere/usage", "USAGE_SERVICE_VISITOR_SECRET": SECRET}
    limits = limits_of(load_settings(ServerSettings, environ))
    assert (limits.events, limits.seconds, limits.verify_seconds) == (1000, 5, 60)
