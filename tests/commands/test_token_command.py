"""`usage-service token`: created, listed, revoked; shown once and never again."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.support.building import served
from usage_service.cli import make_app
from usage_service.commands.tokens import TokenError
from usage_service.shared.errors import UserError
from usage_service.tokens import FORM


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    # Logs would be written to this terminal ever after.
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)


async def called(*words: str) -> Result:
    """Run the command in an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, make_app(), ["token", *words])


async def listed() -> list[dict[str, Any]]:
    result = await called("list")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


async def test_a_token_is_created_used_listed_and_revoked(database_url: str) -> None:
    created = await called("create", "etl", "--scope", "read", "--scope", "build", "--days", "7")
    assert created.exit_code == 0, created.output
    token = created.stdout.strip()
    assert FORM.fullmatch(token)
    [row] = await listed()
    assert (row["name"], row["scopes"], row["state"], row["revoked_at"]) == ("etl", '["read","build"]', "valid", "")
    assert token not in str(row)
    async with served(database_url, token="another one") as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/v1/projections", headers=headers)).status == 200
        assert (await client.post("/v1/events", headers=headers)).status == 403
    assert (await called("revoke", row["token_id"])).stdout == "revoked 1\n"
    assert [row["state"] for row in await listed()] == ["revoked"]
    again = await called("revoke", "etl")
    assert isinstance(again.exception, TokenError)
    assert "no valid token etl" in str(again.exception)


@pytest.mark.parametrize("words", [("A b", "--scope", "read"), ("x" * 64, "--scope", "read")])
async def test_a_name_that_cannot_be_is_told_what_could(words: tuple[str, ...]) -> None:
    result = await called("create", *words)
    assert isinstance(result.exception, TokenError)
    assert "small letters" in str(result.exception)


@pytest.mark.parametrize("words", [("etl",), ("etl", "--scope", "root"), ("etl", "--scope", "read", "--days", "0")])
async def test_a_token_says_what_it_opens_and_until_when(words: tuple[str, ...]) -> None:
    result = await called("create", *words)
    assert result.exit_code == 2 or str(result.exception) == "--scope root: there are events, read, build, admin, feed"
    assert await listed() == []


async def test_a_database_that_is_not_there_is_one_line(unused_tcp_port: int) -> None:
    url = f"postgresql://127.0.0.1:{unused_tcp_port}/none"
    result = await called("list", "--database-url", url)
    assert isinstance(result.exception, UserError)
