"""What is logged is JSON where nobody looks, and holds neither tokens, nor passwords, nor raw visitor ids."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
import structlog

from tests.conftest import SECRET, Start
from tests.support.proxy import proxied
from tests.support.servers import Client, JsonObject, event, eventually
from tests.support.servers import connected as database_of
from usage_service.shared.logs import configure_logs
from usage_service.shared.settings import ServerSettings
from usage_service.tokens import create_token
from usage_service.web.api import events as route
from usage_service.web.api import feed
from usage_service.web.keys import SERVICE

TOKEN = "token-a8c1f0"
VISITOR = "visitor-5b7d2e"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Return what the programs log to stderr, which is no terminal."""
    stream = io.StringIO()
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("debug")
    # Else the modules' loggers stay as they are now; and pytest puts a stderr of its own in the place of ours.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=stream), cache_logger_on_first_use=False)
    yield stream
    structlog.configure(**before)
    logging.basicConfig(level=level, handlers=handlers, force=True)


def entries(logged: io.StringIO) -> list[JsonObject]:
    return [json.loads(line) for line in logged.getvalue().splitlines()]


def password(settings: ServerSettings) -> str:
    return settings.database_url.partition("@")[0].rpartition(":")[2]


@pytest.fixture
async def client(logged: io.StringIO, start: Start, settings: ServerSettings) -> Client:
    return await start(msgspec.structs.replace(settings, token=TOKEN))


async def send(client: Client) -> int:
    response = await client.post(
        f"/v1/events?secret={VISITOR}", json=[event(visitor=VISITOR)], headers={"Authorization": f"Bearer {TOKEN}"}
    )
    await response.read()
    return response.status


async def test_a_request_that_fails_is_logged_without_what_was_in_it(
    client: Client, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch, settings: ServerSettings
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("forced")

    monkeypatch.setattr(route, "_answer", fail)
    assert await send(client) == 500
    [failed] = [entry for entry in entries(logged) if entry["event"] == "request_failed"]
    assert (failed["method"], failed["path"], failed["level"]) == ("POST", "/v1/events", "error")
    assert failed["exception"][0]["exc_value"] == "forced"
    assert failed["exception"][0]["frames"]
    no_secret(logged, settings)


async def test_the_address_of_a_feed_is_not_logged(
    client: Client, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch, settings: ServerSettings
) -> None:
    async def fail(*given: object) -> None:
        raise RuntimeError("forced")

    async with database_of(settings.database_url) as database:
        token = await create_token(database, "reader", ["feed"], timedelta(days=1))
    monkeypatch.setattr(feed, "answer", fail)
    statuses = {"": 500, "x": 404, "/x": 404, "%20": 404, "?limit=0": 422}
    for more, status in statuses.items():
        assert (await client.get(f"/feeds/{token}{more}")).status == status
    assert (await client.post(f"/feeds/{token}")).status == 405
    assert {"request_failed", "wrong_token"} <= {entry["event"] for entry in entries(logged)}
    assert token[:20] not in logged.getvalue()
    no_secret(logged, settings)


async def test_a_service_without_its_database_logs_no_secret(
    logged: io.StringIO, start: Start, settings: ServerSettings
) -> None:
    async with proxied(settings.database_url) as (proxy, url):
        client = await start(msgspec.structs.replace(settings, database_url=url, token=TOKEN))
        proxy.cut()
        assert await send(client) == 503

        async def told() -> bool:
            return {"log_unavailable", "database_unavailable", "listener_lost"} <= {
                entry["event"] for entry in entries(logged)
            }

        await eventually(told, "all that lost the database have logged it")
        proxy.restore()
        await eventually(lambda: connected(client), "the listener is connected again")
    no_secret(logged, settings)


async def connected(client: Client) -> bool:
    assert client.app is not None
    return client.app[SERVICE].listener.connected


def no_secret(logged: io.StringIO, settings: ServerSettings) -> None:
    for secret in (TOKEN, VISITOR, SECRET, password(settings)):
        assert secret
        assert secret not in logged.getvalue()


def test_a_line_is_one_object_with_time_and_level(logged: io.StringIO) -> None:
    structlog.get_logger("some").info("thing_happened", text="two\nlines", number=5)
    [entry] = entries(logged)
    assert (entry["event"], entry["level"], entry["text"], entry["number"]) == (
        "thing_happened",
        "info",
        "two\nlines",
        5,
    )
    assert entry["timestamp"].endswith("Z")


def test_libraries_log_in_the_same_way(logged: io.StringIO) -> None:
    logging.getLogger("asyncio").error("100%% of %s", "it")
    logging.getLogger("asyncio").info("too low")
    [entry] = entries(logged)
    assert (entry["event"], entry["level"]) == ("100% of it", "error")


def test_local_variables_are_not_logged(logged: io.StringIO) -> None:
    held = f"Bearer {TOKEN}"
    try:
        raise RuntimeError(str(len(held)))
    except RuntimeError:
        structlog.get_logger("some").exception("failed")
    assert TOKEN not in logged.getvalue()
    assert entries(logged)[0]["exception"][0]["exc_type"] == "RuntimeError"
