"""GET /v1/sessions: how people work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Instant, Product
from usage_service.problems import FieldError, invalid
from usage_service.projections import snapshot
from usage_service.sessions import Bots, list_sessions
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.parameters import query_parameters

DEFAULT_SPAN = timedelta(days=7)


class SessionParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Sessions that began in a span (the last 7 days, unless said otherwise); bots are left out unless asked for."""

    product: Product | None = None
    since: Instant | None = None
    until: Instant | None = None
    bots: Bots = "exclude"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


async def get_sessions(request: web.Request) -> web.Response:
    """Sessions, latest first, and how many there are in all."""
    asked = query_parameters(request, SessionParameters)
    until = asked.until or datetime.now(UTC) + timedelta(days=1)  # clocks ahead of ours are taken up to a day
    since = asked.since or until - DEFAULT_SPAN
    if since >= until:
        raise invalid([FieldError(parameter="since", detail="must be before until")])
    async with snapshot(service_of(request).pool, "sessions") as seen:
        sessions, total = await list_sessions(seen.connection, since, until, asked.product, asked.bots, asked.limit)
    return json_answer({"since": since, "until": until, "total": total, "sessions": sessions}, position=seen.position)
