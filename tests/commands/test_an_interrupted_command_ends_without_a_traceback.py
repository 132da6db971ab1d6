"""Ctrl-C ends a command with 130 and without a traceback, also while the command is loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_service import Fault, fake_service
from usage_service.shared.exit_codes import ExitCode

# In the place of a module that every program loads: it is interrupted there, and tells where that is ignored.
INTERRUPTS = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
os._exit(7)
"""


def run(module: str, *words: str, beside: Path, ignores: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the modules in a folder first; it ignores ^C as a job in the background does."""
    command = [sys.executable, "-m", module, *words]
    if ignores:
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    environment = os.environ | {"PYTHONPATH": str(beside)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("usage_service", ("popular",)),
        ("usage_service", ("replay", "--help")),
        ("builder", ("failed",)),
        ("warehouse", ("query", "SELECT 1")),
    ],
)
@pytest.mark.parametrize("loaded", ["asyncio", "typer"])
def test_it_may_be_interrupted_while_it_is_loaded(
    tmp_path: Path, module: str, words: tuple[str, ...], loaded: str
) -> None:
    (tmp_path / f"{loaded}.py").write_text(INTERRUPTS)
    told = run(module, *words, beside=tmp_path)
    assert (told.returncode, told.stdout, told.stderr) == (ExitCode.INTERRUPTED, "", "")
    assert run(module, *words, beside=tmp_path, ignores=True).returncode == 7


def test_an_interrupted_import_says_that_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "pages.ndjson"
    made = {"type": "page_viewed", "occurred_at": "2026-11-20T12:00:00Z"}
    path.write_text("".join(json.dumps(made | {"data": {"page": f"/{number}"}}) + "\n" for number in range(10_000)))
    running: list[subprocess.Popen[str]] = []

    def plan(number: int, _: object) -> Fault:
        if number == 7:
            running[0].send_signal(signal.SIGINT)
            return "unread"
        return None

    def start() -> tuple[int, str, str]:
        words = ["import", str(path), "--url", service.url]
        command = [sys.executable, "-m", "usage_service", *words]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        out, errors = running[-1].communicate(timeout=60)
        return running[-1].returncode, out, errors

    with fake_service(plan) as service:
        code, _, errors = start()
        assert code == ExitCode.INTERRUPTED
        assert errors.splitlines()[-1] == "stopped; run this again to go on: nothing is added twice"
        assert "Traceback" not in errors
        code, out, _ = start()
        assert (code, len(service.events)) == (0, 10_000)
    assert "gone on with, after line" in out
