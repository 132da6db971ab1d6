"""Commands of the ETL guide, in its order, print what the guide shows; its task asks, builds and reports."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.night_calls import claim_jobs, complete_job, plan
from tests.support.servers import Client, Connection, event, post, registered
from usage_service.hotlist.reasons import NAMES

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "etl.md").read_text("utf-8")
Drained = Callable[[], Awaitable[None]]


async def fill(client: Client, drained: Drained) -> None:
    now = datetime.now(UTC).isoformat()
    views = [
        event("probe_viewed", probe=name, visitor=f"v{n}", occurred_at=now) for n, name in enumerate(["gc_ms"] * 3)
    ]
    await post(client, *views, event("probe_viewed", probe="slow_ms", occurred_at=now))
    await drained()


def run(command: str, folder: Path, url: str) -> str:
    environment = os.environ | {
        "USAGE_SERVICE_URL": url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_every_command_prints_what_it_should(client: Client, drained: Drained, tmp_path: Path) -> None:
    await fill(client, drained)
    ran = 0
    for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL):
        for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            assert await asyncio.to_thread(run, command, tmp_path, str(client.make_url("/"))) == output
            ran += 1
    assert ran == 3


async def test_the_task_has_what_is_hot_built_in_a_night(
    client: Client, drained: Drained, database: Connection
) -> None:
    await post(client, registered("gc_ms"), registered("slow_ms"))
    await fill(client, drained)
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names["URL"] = str(client.make_url("/")).rstrip("/")
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


def test_every_reason_is_in_the_guide() -> None:
    table = GUIDE.partition("| reason |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*NAMES, "pinned"]
