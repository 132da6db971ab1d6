"""Routes of Mozilla's Dockerflow: heartbeat, load balancer heartbeat, and version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import asyncpg
import msgspec
from aiohttp import web

from usage_service.builds.sinks import SinkState, sink_states
from usage_service.mirror.state import MirrorState, mirror_states
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow
from usage_service.shared.version import Version, running_version
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.openapi.operations import described, ok

MOST_BEHIND = 100_000
DATABASE_SECONDS = 2.0


class Heartbeat(msgspec.Struct, frozen=True):
    """Status of the service: each check is `ok` or says what is wrong; the rest is by projection.

    `events_set_aside` names those that went on without events that they could not fold, `sinks_behind` what keeps rows
    from where builders take them, too, `mirrors_behind` what keeps events from mirrors of the log. None is a reason for
    a 503.
    """

    status: Literal["ok", "error"]
    checks: dict[str, str]
    positions_behind: dict[str, int]
    events_set_aside: dict[str, int]
    sinks_behind: dict[str, str]
    mirrors_behind: dict[str, str]


class Alive(msgspec.Struct, frozen=True):
    """Status of a process that answers."""

    status: Literal["ok"]


@described(ok(Heartbeat), ok(Heartbeat, status=503, means="a check failed"))
async def get_heartbeat(request: web.Request) -> web.Response:
    """Check the service.

    The answer is 200 when the database answers, events can be recorded, the listener is connected and the projections
    keep up; else 503 and which check failed.
    """
    service = service_of(request)
    rows: list[asyncpg.Record] = []
    sinks: list[SinkState] = []
    mirrors: list[MirrorState] = []
    try:
        async with borrow(service.pool, DATABASE_SECONDS) as connection:
            rows = await connection.fetch(query("health", "lag"))
            sinks = await sink_states(connection)
            mirrors = await mirror_states(connection)
        database = "ok"
    except UNAVAILABLE as error:
        database = f"unavailable: {type(error).__name__}{_used_up(service.pool)}"
    checks = {
        "database": database,
        "recording": service.ingest.health.state,
        "listener": "ok" if service.listener.connected else "not connected",
        "projections": "; ".join(_complaints(rows)) or "ok",
    }
    well = all(state == "ok" for state in checks.values())
    behind = {row["name"]: row["behind"] for row in rows}
    set_aside = {row["name"]: row["set_aside"] for row in rows if row["set_aside"]}
    sinks_behind = {f"{sink.sink} {sink.product} {sink.channel}": str(sink) for sink in sinks if sink.is_behind}
    mirrors_behind = {state.mirror: str(state) for state in mirrors if not state.is_well}
    body = Heartbeat("ok" if well else "error", checks, behind, set_aside, sinks_behind, mirrors_behind)
    return json_answer(body, status=200 if well else 503)


def _used_up(pool: Pool) -> str:
    is_used_up = pool.get_size() == pool.get_max_size() and not pool.get_idle_size()
    return f"; all {pool.get_size()} connections are in use" if is_used_up else ""


def _complaints(rows: list[asyncpg.Record]) -> Iterator[str]:
    for row in rows:
        if row["failed_after"] is not None:
            yield f"{row['name']} cannot go on after position {row['failed_after']}"
        elif row["behind"] > MOST_BEHIND:
            yield f"{row['name']} is {row['behind']} positions behind"


@described(ok(Version))
async def get_version(_request: web.Request) -> web.Response:
    """Get the version of the running code."""
    return json_answer(running_version())


@described(ok(Alive))
async def get_lbheartbeat(_request: web.Request) -> web.Response:
    """Check that the process answers, without the database."""
    return json_answer(Alive("ok"))
