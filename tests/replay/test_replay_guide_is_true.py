"""What the guide for analysts runs, in its order, prints what the guide shows."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.servers import Client

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "replay.md").read_text("utf-8").partition("## A projection")[0]
BLOCKS: list[tuple[str, str]] = re.findall(r"```(python|console|text)\n(.*?)```", GUIDE, re.DOTALL)


def run(words: list[str], folder: Path, url: str) -> str:
    """Return what a command prints on a terminal without colours."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | {
        "USAGE_SERVICE_URL": url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TTY_COMPATIBLE": "1",
        "TERM": "dumb",
        "COLUMNS": "80",
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(number: int) -> str:
    """Return the output that the guide shows after a block of Python."""
    kind, text = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else ("", "")
    return text if kind == "text" else ""


async def test_everything_prints_what_it_should(client: Client, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    url = str(client.make_url("/"))
    ran = 0
    for number, (kind, text) in enumerate(BLOCKS):
        if kind == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", text, re.MULTILINE):
                assert await asyncio.to_thread(run, ["bash", "-c", command], tmp_path, url) == output
                ran += 1
        elif kind == "python" and expected(number):
            printed = await asyncio.to_thread(run, [sys.executable, "-c", text], tmp_path, url)
            assert printed.rstrip() == expected(number).rstrip()
            ran += 1
    assert ran == 7


def test_the_examples_are_those_shown() -> None:
    shown = dict(re.findall(r"```python\n# (docs/examples/\S+)\n(.*?)```", GUIDE, re.DOTALL))
    assert set(shown) == {"docs/examples/funnel.py", "docs/examples/notebook.py"}
    for name, text in shown.items():
        assert (ROOT / name).read_text("utf-8") == text
