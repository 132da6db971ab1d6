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

from tests.support.servers import Client, Connection, event, post
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


async def test_the_task_builds_what_is_hot_and_says_so(client: Client, drained: Drained, database: Connection) -> None:
    await fill(client, drained)
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names["URL"] = str(client.make_url("/")).rstrip("/")

    def built(product: str, channel: str, probe: str) -> bool:
        return (product, channel, probe) == ("fog", "nightly", "gc_ms")

    build = partial(names["build_hot_probes"], "a-run", "fog", "nightly", built)
    assert await asyncio.to_thread(build) == ["gc_ms"]
    rows = await database.fetch("SELECT probe, channel FROM event_log WHERE type = 'probe_built'")
    assert [tuple(row) for row in rows] == [("gc_ms", "nightly")]
    assert await database.fetchval("SELECT count(*) FROM hotlist_runs WHERE run = 'a-run'") == 1


def test_every_reason_is_in_the_guide() -> None:
    table = GUIDE.partition("| reason |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*NAMES, "pinned"]
