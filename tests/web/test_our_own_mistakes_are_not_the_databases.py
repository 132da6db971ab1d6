"""A wrong call of the database is a 500 that is logged with its error; a connection that has ended is a 503."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.support.servers import Client, Connection
from usage_service.shared.postgres import is_away
from usage_service.web.api import build_answers


async def wrong_number(database: Connection) -> None:
    await database.fetch("SELECT $1::integer")


async def wrong_type(database: Connection) -> None:
    await database.fetch("SELECT $1::integer", "text")


async def ended(database: Connection) -> None:
    await database.close()
    await database.fetch("SELECT 1")


@pytest.mark.parametrize(("call", "status"), [(wrong_number, 500), (wrong_type, 500), (ended, 503)])
async def test_it_is_told_whose_fault_it_is(
    call: object, status: int, client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(call)
    monkeypatch.setattr(build_answers, "find_build", lambda *_: call(database))
    with capture_logs() as logged:
        response = await client.get("/v1/builds/00000000-0000-0000-0000-000000000000")
    assert response.status == status
    [entry] = [entry for entry in logged if entry["log_level"] in ("warning", "error")]
    assert entry["event"] == ("request_failed" if status == 500 else "database_unavailable")


@pytest.mark.parametrize("message", ["pool is closing", "cannot perform operation: connection is closed"])
def test_what_has_ended_is_away(message: str) -> None:
    assert is_away(asyncpg.InterfaceError(message))
    assert is_away(TimeoutError())
