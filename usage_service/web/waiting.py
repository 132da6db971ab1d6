"""Waiting in a caller's name: only for as long as the token or session that opened the route is valid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from aiohttp import web

from usage_service.web.access import ACCESS

CHECK_SECONDS = 1.0  # how often to look at the token meanwhile

Result = TypeVar("Result")


async def checked(coming: Awaitable[Result], check: Callable[[], Awaitable[None]]) -> Result:
    """Return what is coming; once a check raises, while it is waited for or when it is there, end it and raise."""
    waited = asyncio.ensure_future(coming)
    try:
        while not (await asyncio.wait({waited}, timeout=CHECK_SECONDS))[0]:
            await check()
        result = waited.result()
    finally:
        waited.cancel()
        await asyncio.wait({waited})
        waited.cancelled() or waited.exception()  # retrieved, or asyncio complains
    await check()  # who could read when it was asked for may no longer
    return result


async def while_allowed(request: web.Request, coming: Awaitable[Result]) -> Result:
    """Return what is coming; raise a Problem (401) once the token or session of the request is not valid any more."""
    return await checked(coming, partial(request.app[ACCESS].require_open, request))
