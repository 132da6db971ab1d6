"""Commands of the ETL guide, in its order, print what the guide shows; its task asks, builds and reports."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.conftest import Start
from tests.support.night_calls import claim_jobs, complete_job, plan
from tests.support.servers import Client, Connection, event, eventually, post, registered
from tests.support.snippets import Shell, commands_of, snippets
from usage_service.hotlist.reasons import NAMES
from usage_service.shared.settings import ServerSettings
from usage_service.tokens import TokenScope, create_token

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "etl.md").read_text("utf-8")
OPERATOR = "the operator's token of this test"
NIGHT = {"product": "fog", "channel": "nightly", "budget": 1}
BUILT: dict[str, object] = {
    "product": "fog",
    "channel": "nightly",
    "built_at": "2026-11-24T04:00:00Z",
    "probes": ["gc_ms"],
}
LIST = {"run": "a-run", "product": "fog", "budget": 1}
# The requests that are made with each token of the guide.
TOKENS: dict[str, list[tuple[str, str, dict[str, object] | None]]] = {
    "glam-etl": [
        ("GET", "/v1/hotlist/a-run", None),
        ("POST", "/v1/hotlist", LIST),
        ("POST", "/v1/hotlist/built", BUILT),
    ],
    "airflow": [
        ("POST", "/v1/hotlist", LIST),
        ("POST", "/v1/builds/prefetch", NIGHT),
        ("GET", "/v1/nights/00000000-0000-0000-0000-000000000000", None),
    ],
}
Drained = Callable[[], Awaitable[None]]


async def fill(client: Client, drained: Drained) -> None:
    now = datetime.now(UTC).isoformat()
    views = [
        event("probe_viewed", probe=name, visitor=f"v{n}", occurred_at=now) for n, name in enumerate(["gc_ms"] * 3)
    ]
    await post(client, *views, event("probe_viewed", probe="slow_ms", occurred_at=now))
    await drained()


@pytest.fixture
async def client(start: Start, settings: ServerSettings) -> Client:
    """Start a service that asks for tokens; what a test itself posts has the operator's."""
    client = await start(msgspec.structs.replace(settings, token=OPERATOR))
    client.session.headers["Authorization"] = f"Bearer {OPERATOR}"
    return client


def scopes_of(name: str) -> list[str]:
    """Return the scopes of the token of this name that the guide has made."""
    [text] = [one.text for one in snippets("docs/guides/etl.md", "sh") if f"token create {name} " in one.text]
    return re.findall(r"--scope (\w+)", text)


async def made(database: Connection, scopes: Iterable[str]) -> str:
    return await create_token(database, "etl", cast("list[TokenScope]", [*scopes]), timedelta(days=1))


async def test_every_command_prints_what_it_should(
    client: Client, drained: Drained, database: Connection, tmp_path: Path
) -> None:
    await fill(client, drained)
    ran = 0
    token = await made(database, scopes_of("glam-etl"))
    shell = Shell(tmp_path, str(client.make_url("/")), USAGE_SERVICE_TOKEN=token)
    for block in snippets("docs/guides/etl.md", "console"):
        for command, output in commands_of(block):
            assert await asyncio.to_thread(shell.run, command) == output
            ran += 1
    assert ran == 3


@pytest.mark.parametrize(("name", "spared"), [(name, scope) for name in TOKENS for scope in scopes_of(name)])
async def test_no_token_of_the_guide_has_a_scope_too_many(
    client: Client, drained: Drained, database: Connection, name: str, spared: str
) -> None:
    await post(client, registered("gc_ms"))
    await fill(client, drained)
    token = await made(database, {*scopes_of(name)} - {spared})
    refused = set()
    for method, path, body in TOKENS[name]:
        answer = await client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})
        refused.add(answer.status == 403)
    assert refused == {True, False}


async def test_the_task_has_what_is_hot_built_in_a_night(
    client: Client, drained: Drained, database: Connection
) -> None:
    await post(client, registered("gc_ms"), registered("slow_ms"))
    await fill(client, drained)
    [code, *_] = snippets("docs/guides/etl.md", "python")
    names: dict[str, Any] = {}
    exec(code.text, names)
    names |= {"URL": str(client.make_url("/")).rstrip("/"), "TOKEN": await made(database, scopes_of("airflow"))}
    ask, is_over = partial(names["ask_for_night"], "a-run", "fog", "nightly", budget=2), names["night_is_over"]
    first = await asyncio.to_thread(ask)
    again = await asyncio.to_thread(ask)
    assert (first["is_new"], again) == (True, first | {"is_new": False})
    assert await database.fetchval("SELECT count(*) FROM hotlist_runs WHERE run = 'a-run'") == 1
    await plan(database, ["gc_ms"], ["slow_ms"])
    waits = asyncio.create_task(asyncio.to_thread(is_over, first["night_id"]))
    [done, failing] = await claim_jobs(database)
    await complete_job(database, done)
    held = failing["job_id"], failing["attempt"]
    await database.execute("SELECT fail_shared_job($1, $2, 'x', 'no such column')", *held)
    assert await database.fetchval("SELECT end_nights()") == 1
    night = await waits
    assert (night["totals"]["built"], night["totals"]["failed"]) == (1, 1)
    names["check"](night)
    names["check"](night, most_failed=1)
    with pytest.raises(RuntimeError, match="1 probes failed"):
        names["check"](night, most_failed=0)


@pytest.mark.skipif(not shutil.which("airflow"), reason="there is no Airflow to run the DAG with")
async def test_airflow_runs_the_dag(client: Client, drained: Drained, database: Connection, tmp_path: Path) -> None:
    """The night is over when its first look is asked for: there is nothing that could be built."""
    await post(client, registered("gc_ms"))
    await fill(client, drained)
    dags = tmp_path / "dags"
    dags.mkdir()
    for one in snippets("docs/guides/etl.md", "python"):
        first, _, code = one.text.partition("\n")
        (dags / Path(first).name).write_text(code)
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "USAGE_SERVICE_URL": str(client.make_url("/")),
        "USAGE_SERVICE_TOKEN": await made(database, scopes_of("airflow")),
    }
    ended = asyncio.create_task(end_nights(database))
    for words in (["db", "migrate"], ["dags", "test", "glam_fog"]):
        done = await asyncio.to_thread(
            subprocess.run,
            ["airflow", *words],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2_000:]
    assert (await ended, await database.fetchval("SELECT count(*) FROM hotlist_runs")) == ("over", 1)


async def end_nights(database: Connection) -> str:
    """End the night once it is asked for, as a builder does that finds nothing to build."""
    await eventually(lambda: database.fetchval("SELECT count(*) > 0 FROM nights"), "a night", 300)
    await database.execute("UPDATE nights SET state = 'over', finished_at = clock_timestamp()")
    return "over"


def test_every_reason_is_in_the_guide() -> None:
    table = GUIDE.partition("| reason |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*NAMES, "pinned"]
