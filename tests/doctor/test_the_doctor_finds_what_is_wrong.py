"""`usage-service doctor` finds each part that is broken, says how to mend it, and ends with exit code 1."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.building import served
from tests.support.commands import called
from tests.support.servers import Connection
from usage_service.doctor.findings import clock_finding
from usage_service.shared.schema import SCHEMA_VERSION
from usage_service.shared.version import running_version

TOKEN = "a token of the tests that nobody guesses"
WELL = {"database": "ok", "recording": "ok", "listener": "ok", "projections": "ok"}
NOWHERE = "http://127.0.0.1:1"  # nobody listens there
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Break = Callable[[Connection], Awaitable[object]]


async def examined(*words: str, code: int | None = None) -> dict[str, dict[str, str]]:
    """Run the command; what it found, by part."""
    where = () if "--url" in words else ("--url", NOWHERE)
    result = await called("doctor", "--format", "json", *where, *words)
    assert code is None or result.exit_code == code, result.output
    return {finding["part"]: finding for finding in json.loads(result.stdout)}


@asynccontextmanager
async def answering(
    heartbeat: dict[str, Any] | None = None,
    statuses: dict[str, int] | None = None,
    ahead: timedelta = timedelta(0),
    date: str | None = None,
) -> AsyncIterator[str]:
    """Run a service that says this of itself; its answers to the proofs of scopes are by method."""

    async def answer(request: web.Request) -> web.Response:
        told = {"Date": date or format_datetime(datetime.now(UTC) + ahead, usegmt=True)}
        if request.path == "/__version__":
            return web.json_response({"version": running_version().version}, headers=told)
        if request.path == "/__heartbeat__":
            empty: dict[str, Any] = {"events_set_aside": {}, "sinks_behind": {}, "mirrors_behind": {}}
            return web.json_response({"checks": WELL} | empty | (heartbeat or {}), headers=told)
        status = (statuses or {}).get(f"{request.method} {request.path}", 200)
        return web.json_response({"detail": "told"}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder without a local stack, where no setting names anything."""
    own = ("DATABASE_URL", "USAGE_SERVICE_URL", "USAGE_SERVICE_TOKEN", "GOOGLE_CLOUD_PROJECT")
    for name in (*own, "PROBE_BUILDER_WAREHOUSE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_what_is_well_is_told_and_what_nothing_names_is_not_checked() -> None:
    async with answering() as url:
        found = await examined("--url", url, "--token", TOKEN, code=0)
    assert {part for part, one in found.items() if one["state"] == "unchecked"} == {"database", "warehouse"}
    assert found["token"]["seen"] == "the token opens read, events, build, admin"
    assert found["clock of the service"]["state"] == "ok"
    assert all(one["mend"] for one in found.values() if one["state"] != "ok")


async def test_the_token_of_a_local_stack_is_that_of_its_directory(elsewhere: Path) -> None:
    (elsewhere / "stack").mkdir()
    (elsewhere / "stack" / "token").write_text(f"{TOKEN}\n")
    async with answering() as url:
        there, here = await examined("--url", url, "--data-dir", "stack"), await examined("--url", url)
    assert there["token"]["seen"].startswith("the token opens")
    assert not here["token"]["seen"].startswith("the token opens")


async def test_a_service_that_is_away_or_is_none(unused_tcp_port: int) -> None:
    found = await examined("--url", f"http://127.0.0.1:{unused_tcp_port}", code=1)
    assert found["service"]["state"] == "wrong"
    assert "does not answer" in found["service"]["seen"]
    assert "--url" in found["service"]["mend"]
    assert not any("token" in part for part in found)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    async with TestServer(app) as server:
        found = await examined("--url", str(server.make_url("/")), code=1)
    assert "is no usage service" in found["service"]["seen"]


@pytest.mark.parametrize("check", WELL)
async def test_each_check_of_the_heartbeat(check: str) -> None:
    async with answering({"checks": WELL | {check: "broken"}}) as url:
        found = await examined("--url", url, code=1)
    assert [part for part, one in found.items() if one["state"] == "wrong"] == [f"service: {check}"]
    assert found[f"service: {check}"]["mend"]


@pytest.mark.parametrize(
    ("told", "part", "state"),
    [
        ({"mirrors_behind": {"p.d": "3 positions behind"}}, "mirror p.d", "wrong"),
        ({"sinks_behind": {"glam fog nightly": "late"}}, "sink glam fog nightly", "wrong"),
        ({"events_set_aside": {"sessions": 3}}, "service: sessions", "note"),
    ],
)
async def test_what_lags_behind_the_service(told: dict[str, Any], part: str, state: str) -> None:
    async with answering(told) as url:
        found = await examined("--url", url, code=1 if state == "wrong" else 0)
    assert found[part]["state"] == state
    assert found[part]["mend"]


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_off(minutes: int) -> None:
    async with answering(ahead=timedelta(minutes=minutes)) as url:
        found = await examined("--url", url, code=1)
    assert found["clock of the service"]["state"] == "wrong"
    assert ("ahead of" if minutes > 0 else "behind") in found["clock of the service"]["seen"]


@pytest.mark.parametrize("date", ["now", "Fri, 31 Dec 9999 23:59:59 -1400"])
async def test_a_clock_that_tells_no_time(date: str) -> None:
    async with answering(date=date) as url:
        assert "clock of the service" not in await examined("--url", url, code=0)


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (4, "ok"), (-4, "ok"), (7, "wrong"), (-7, "wrong")])
def test_a_slow_answer_is_no_wrong_clock(seconds: int, state: str) -> None:
    their = NOON + timedelta(seconds=seconds)
    assert clock_finding("clock", their, NOON, NOON).state == state
    assert clock_finding("clock", their, NOON - timedelta(seconds=9), NOON + timedelta(seconds=9)).state == "ok"


@pytest.mark.parametrize(
    ("statuses", "token", "state", "seen"),
    [
        ({"POST /v1/events": 403, "PUT /v1/hidden/doctor": 403}, TOKEN, "ok", "opens read, build; not events, admin"),
        (dict.fromkeys(("GET /v1/projections", "POST /v1/events"), 401), TOKEN, "wrong", "is not valid"),
        ({"GET /v1/projections": 429}, TOKEN, "wrong", "429: told"),
        (
            dict.fromkeys(("GET /v1/projections", "POST /v1/events", "POST /v1/builds", "PUT /v1/hidden/doctor"), 401),
            "",
            "wrong",
            "none was given",
        ),
    ],
)
async def test_what_the_token_opens(statuses: dict[str, int], token: str, state: str, seen: str) -> None:
    async with answering(statuses=statuses) as url:
        found = await examined("--url", url, "--token", token, code=0 if state == "ok" else 1)
    assert (found["token"]["state"], seen in found["token"]["seen"]) == (state, True), found["token"]
    assert (found["token"]["mend"] == "") == (state == "ok")


async def test_a_service_is_told_to_prove_scopes_and_changes_nothing(
    own_database: Connection, own_database_url: str
) -> None:
    async with served(own_database_url, token=TOKEN) as client:
        url = str(client.make_url("/"))
        found = await examined("--url", url, "--token", TOKEN, "--database-url", own_database_url)
        assert found["token"]["seen"].endswith("read, events, build, admin")
        wrong = await examined("--url", url, "--token", "another token, which is not right at all")
        assert wrong["token"]["seen"] == "is not valid here"
    kept = "SELECT (SELECT count(*) FROM event_log) + (SELECT count(*) FROM builds)"
    assert await own_database.fetchval(kept) == 0
    assert await own_database.fetchval("SELECT count(*) FROM hidden_probes WHERE pattern = 'doctor'") == 0


async def stuck(database: Connection) -> None:
    await database.execute(
        "UPDATE projections SET failed_at = now(), failed_after = 0, error = 'no such thing' WHERE name = 'sessions'"
    )


async def older(database: Connection) -> None:
    await database.execute("DELETE FROM schema_version")
    await database.execute("INSERT INTO schema_version (version, works_with) VALUES ($1, 1)", SCHEMA_VERSION - 1)


async def newer(database: Connection) -> None:
    await database.execute("INSERT INTO schema_version (version, works_with) VALUES ($1, $1)", SCHEMA_VERSION + 1)


async def later(database: Connection) -> None:
    await database.execute(
        "INSERT INTO schema_version (version, works_with) VALUES ($1, $2)", SCHEMA_VERSION + 1, SCHEMA_VERSION
    )


async def read_only(database: Connection) -> None:
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')


async def missing(database: Connection) -> None:
    await database.execute("DROP TABLE schema_version")


async def recorded_never(database: Connection) -> None:
    await database.execute("DROP TABLE recording_probe")


async def builder_seen(database: Connection) -> None:
    await database.execute("INSERT INTO builders (name, seen_at) VALUES ('one', now())")


async def builder_gone(database: Connection) -> None:
    await database.execute("INSERT INTO builders (name, seen_at) VALUES ('one', now() - interval '10 minutes')")


async def nothing(_database: Connection) -> None:
    pass


@pytest.mark.parametrize(
    ("broken", "part", "state", "seen", "mend"),
    [
        (nothing, "builders", "wrong", "none was seen for a day", "probe-builder run"),
        (nothing, "projections", "ok", "are current", ""),
        (nothing, "writing", "ok", "events can be recorded", ""),
        (builder_seen, "builders", "ok", "1 alive", ""),
        (builder_gone, "builders", "wrong", "none was seen for 60", "probe-builder run"),
        (stuck, "projection sessions", "wrong", "stands after position 0: no such thing", "operating.md"),
        (older, "schema", "wrong", f"{SCHEMA_VERSION - 1}; this program's is", "usage-service migrate"),
        (newer, "schema", "wrong", "does not work with it", "update this program"),
        (later, "schema", "note", "which works with it", "update this program"),
        (missing, "schema", "wrong", "is not installed", "usage-service migrate"),
        (read_only, "writing", "wrong", "read-only", "default_transaction_read_only"),
        (recorded_never, "writing", "wrong", "is refused", "log"),
    ],
)
async def test_what_is_wrong_with_the_database(
    own_database_url: str, own_database: Connection, broken: Break, part: str, state: str, seen: str, mend: str
) -> None:
    await broken(own_database)
    found = (await examined("--database-url", own_database_url))[part]
    assert found["state"] == state
    assert seen in found["seen"]
    assert mend in found["mend"]


async def test_a_database_that_is_away_or_refuses(database_url: str, unused_tcp_port: int) -> None:
    away = f"postgresql://127.0.0.1:{unused_tcp_port}/none"
    found = (await examined("--database-url", away, code=1))["database"]
    assert (found["state"], "does not answer" in found["seen"]) == ("wrong", True)
    parts = urlsplit(database_url)
    nobody = urlunsplit(parts._replace(netloc=f"nobody:secret-word@{parts.hostname}:{parts.port}"))
    found = (await examined("--database-url", nobody, code=1))["database"]
    assert found["state"] == "wrong"
    assert "secret-word" not in str(found)
    assert found["mend"]


async def test_a_local_stack_that_does_not_run(elsewhere: Path) -> None:
    (elsewhere / "data" / "postgres").mkdir(parents=True)
    (elsewhere / "data" / "postgres" / "password").touch()
    found = (await examined(code=1))["database"]
    assert (found["state"], found["seen"]) == ("wrong", "that of data does not run")
    assert "usage-service up --data-dir data" in found["mend"]


async def test_a_mirror_that_lags(own_database_url: str, own_database: Connection) -> None:
    found = await examined("--database-url", own_database_url)
    assert not any(part.startswith("mirror") for part in found)
    await own_database.execute(MIRROR)
    found = await examined("--database-url", own_database_url)
    assert found["mirror p.d"]["state"] == "ok"
    await own_database.execute('UPDATE mirrors SET failures = 3, error = \'{"code": "notFound", "message": "x"}\'')
    found = await examined("--database-url", own_database_url)
    assert found["mirror p.d"]["state"] == "wrong"
    assert "notFound" in found["mirror p.d"]["seen"]


FAILING = """UPDATE mirrors SET failures = 3, error = '{"code": "notFound", "message": "x"}'"""
MIRROR = "INSERT INTO mirrors (mirror, begins_after) VALUES ('p.d', 0)"


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (500, "wrong")])
async def test_the_warehouse(status: int, state: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(statuses={"GET /other/__version__": status}) as url:
        monkeypatch.setenv("PROBE_BUILDER_WAREHOUSE_URL", f"{url}other")
        assert (await examined())["warehouse"]["state"] == state
        monkeypatch.delenv("PROBE_BUILDER_WAREHOUSE_URL")
        (elsewhere / "data").mkdir()
        (elsewhere / "data" / "warehouse-url").write_text(f"{url}other\n")
        assert (await examined())["warehouse"]["state"] == state


async def test_a_warehouse_that_is_away(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_BUILDER_WAREHOUSE_URL", f"http://127.0.0.1:{unused_tcp_port}")
    found = (await examined(code=1))["warehouse"]
    assert "does not answer" in found["seen"]
    assert "PROBE_BUILDER_WAREHOUSE_URL" in found["mend"]


async def test_bigquery_without_credentials(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(elsewhere / "none.json"))
    found = (await examined(code=1))["warehouse"]
    assert "BigQuery refuses a-project" in found["seen"]
    assert "GOOGLE_APPLICATION_CREDENTIALS" in found["mend"]


async def test_one_screen_with_a_mend_below_each_line_that_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    async with answering({"checks": WELL | {"listener": "not connected"}}) as url:
        result = await called("doctor", "--url", url, "--token", TOKEN)
    printed = result.stdout.splitlines()
    assert len(printed) < 24
    assert max(map(len, printed)) <= 80
    at = next(index for index, line in enumerate(printed) if line.startswith("service: listener"))
    assert "WRONG" in printed[at]
    assert "-> see LISTEN_DATABASE_URL" in printed[at + 1]
    assert printed[-1] == "1 of 9 are wrong"
    assert "\x1b" not in result.stdout  # colours are for terminals
