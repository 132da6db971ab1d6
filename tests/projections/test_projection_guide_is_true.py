"""The guide's projection of one's own does and prints what the guide shows, and is kept up with the log."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.servers import Client, Connection, drained_projections, event, post
from tests.support.snippets import commands_of, snippets

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "guides" / "replay.md").read_text("utf-8").partition("## A projection")[2]
COMMANDS = [
    command
    for block in snippets("docs/guides/replay.md", "console")
    if block.text in SECTION
    for command in commands_of(block)
]


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def shown(number: int, database_url: str) -> None:
    """Run a command of the guide and compare what it prints; hashes differ with the ids of the day."""
    command, output = COMMANDS[number]
    words = [sys.executable, "-m", "usage_service", *command.split()[1:]]
    printed = await asyncio.to_thread(run, words, DATABASE_URL=database_url)
    assert re.sub(r"hash [0-9a-f]{32}", "hash HASH", printed) == output


async def test_it_does_what_the_guide_shows(
    client: Client, database: Connection, database_url: str, tmp_path: Path
) -> None:
    sample = tmp_path / "events.ndjson"
    sample.write_text(await asyncio.to_thread(run, [sys.executable, "docs/examples/sample_events.py"]))
    url = str(client.make_url("/"))
    await asyncio.to_thread(run, [sys.executable, "-m", "usage_service", "import", str(sample)], USAGE_SERVICE_URL=url)
    await drained_projections(database)

    await shown(0, database_url)
    try:
        [_, question] = snippets("docs/guides/replay.md", "sql")
        answer = SECTION.partition(question.text)[2].partition("```text\n")[2].partition("```")[0]
        rows = await database.fetch(question.text)
        assert "".join(" ".join(map(str, row)) + "\n" for row in rows) == answer
        await shown(1, database_url)
        before = await database.fetchval("SELECT sum(links) FROM tools_by_day.tools_by_day")
        await post(client, event("link_followed", data={"tool": "looker"}))
        await drained_projections(database)
        assert await database.fetchval("SELECT sum(links) FROM tools_by_day.tools_by_day") == before + 1
    finally:
        await shown(2, database_url)
    assert await database.fetchval("SELECT to_regclass('tools_by_day.tools_by_day')") is None
    assert len(COMMANDS) == 3
