"""What the guide for analysts runs, in its order, prints what the guide shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.servers import Client
from tests.support.snippets import Shell, commands_of, snippets

ROOT = Path(__file__).parents[2]
REPLAYED = (ROOT / "docs" / "guides" / "replay.md").read_text("utf-8").partition("## A projection")[0]
BLOCKS = [one for one in snippets("docs/guides/replay.md", "python", "console", "text") if one.text in REPLAYED]
TERMINAL = {"PYTHONPATH": str(ROOT), "TERM": "dumb", "COLUMNS": "80"}


def expected(number: int) -> str:
    """Return the output that the guide shows after a block of Python."""
    follows = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else None
    return follows.text if follows and follows.language == "text" else ""


async def test_everything_prints_what_it_should(client: Client, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shell = Shell(tmp_path, str(client.make_url("/")), **TERMINAL)
    ran = 0
    for number, block in enumerate(BLOCKS):
        if block.language == "console":
            for command, output in commands_of(block):
                assert await asyncio.to_thread(shell.run, command) == output
                ran += 1
        elif block.language == "python" and expected(number):
            (tmp_path / "pasted.py").write_text(block.text)
            printed = await asyncio.to_thread(shell.run, "python pasted.py")
            assert printed.rstrip() == expected(number).rstrip()
            ran += 1
    assert ran == 7
