"""`usage-service` run within the tests' process, as from a shell."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest
from typer.testing import CliRunner, Result

from usage_service.cli import main, make_app

Run = Callable[..., Awaitable[tuple[int, str, str]]]


def runner(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **settings: str) -> Run:
    """Run a command with these environment variables: exit code, output, errors. It does not set up logs."""
    for name, value in ({"COLUMNS": "200"} | settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)

    def run(arguments: tuple[str, ...]) -> int:
        monkeypatch.setattr(sys, "argv", ["usage-service", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    async def run_beside(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = await asyncio.to_thread(run, arguments)
        return code, *capfd.readouterr()

    return run_beside


async def called(*words: str) -> Result:
    """Run a command: what it prints, its exit code, and the error that it would tell in a line."""
    return await asyncio.to_thread(CliRunner().invoke, make_app(words), list(words))
