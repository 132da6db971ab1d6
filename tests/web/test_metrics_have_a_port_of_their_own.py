"""USAGE_SERVICE_METRICS_PORT: Prometheus reads the metrics there without a token, and nothing else is answered."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import aiohttp
import pytest

from tests.support.servers import eventually
from usage_service.shared.settings import ServerSettings
from usage_service.web.server import ServerError, serve

SECRET = "sixteen or more characters"


def settings(url: str, port: int, metrics_port: int) -> ServerSettings:
    return ServerSettings(
        database_url=url, port=port, token=SECRET, visitor_secret=SECRET, metrics_port=metrics_port, drain_seconds=1
    )


async def status(port: int, path: str) -> int | None:
    """Return the status of a GET without a token, None while nobody listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
            await response.read()
            return response.status
    except aiohttp.ClientConnectionError:
        return None


async def test_metrics_need_no_token_there_and_nothing_else_is_there(
    own_database_url: str, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port, metrics_port = unused_tcp_port_factory(), unused_tcp_port_factory()
    serving = asyncio.create_task(serve(settings(own_database_url, port, metrics_port)))

    async def answers() -> bool:
        return await status(metrics_port, "/metrics") == 200

    await eventually(answers, "the metrics are served")
    assert await status(port, "/metrics") == 401
    assert await status(metrics_port, "/v1/popularity") == 404
    assert await status(metrics_port, "/") == 404
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving is True
    assert await status(metrics_port, "/metrics") is None


async def test_a_port_that_is_taken_is_named(own_database_url: str, unused_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wrong = settings(own_database_url, unused_tcp_port, taken.getsockname()[1])
        with pytest.raises(ServerError, match="choose another USAGE_SERVICE_METRICS_PORT"):
            await serve(wrong)
