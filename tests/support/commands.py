"""`usage-service` run within the tests' process, as from a shell."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest

from usage_service.cli import main

Run = Callable[..., Awaitable[tuple[int, str, str]]]


def runner(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: ModuleType, **settings: str
) -> Run:
    """Runs a command with these environment variables: exit code, output, errors. Its module does not set up logs."""
    for name, value in ({"COLUMNS": "200"} | settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "configure_logs", lambda _level: None)

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
