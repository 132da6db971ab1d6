"""/__heartbeat__ and /__lbheartbeat__ (Mozilla's Dockerflow): whether the service works, and whether it is there."""

from __future__ import annotations

from aiohttp import web

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of

MOST_BEHIND = 100_000


async def get_heartbeat(request: web.Request) -> web.Response:
    """200 when the database answers, the listener is connected and the projections keep up; else 503 and why."""
    service = service_of(request)
    behind: dict[str, int] = {}
    try:
        async with service.pool.acquire(timeout=2) as connection:
            rows = await connection.fetch(query("health", "lag"), timeout=2)
            behind = {row["name"]: row["behind"] for row in rows}
        database = "ok"
    except UNAVAILABLE as error:
        database = f"unavailable: {type(error).__name__}"
    checks = {
        "database": database,
        "listener": "ok" if service.listener.connected else "not connected",
        "projections": "ok" if max(behind.values(), default=0) <= MOST_BEHIND else "far behind",
    }
    well = all(state == "ok" for state in checks.values())
    body = {"status": "ok" if well else "error", "checks": checks, "positions_behind": behind}
    return json_answer(body, status=200 if well else 503)


async def get_lbheartbeat(_request: web.Request) -> web.Response:
    """200 as long as the process answers."""
    return json_answer({"status": "ok"})
