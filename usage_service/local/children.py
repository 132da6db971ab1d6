"""Child processes, started again when they die, and ended with the process that owns them, even if that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog

from usage_service.local.owned_process import owned_command
from usage_service.shared.errors import UserError

LONGEST_PAUSE_SECONDS = 10.0
LONG_LIFE_SECONDS = 30.0
MOST_EARLY_DEATHS = 5
MOST_LOG_BYTES = 8 * 1024 * 1024
TAIL_BYTES = 4 * 1024

log = structlog.get_logger(__name__)


class ChildError(UserError):
    """A child process does not stay up; the message ends with the last lines of its log."""


class Child:
    """A command that is run as a child process, its output in a log file.

    Until it `has_come_up` a child that dies early again and again has a mistake in it. After that the cause is outside,
    such as a full disk: it is started again for as long as it takes.
    """

    def __init__(self, name: str, argv: Sequence[str], environ: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = argv
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self.has_come_up = False

    async def run(self) -> None:
        """Keep the command running until cancelled. Raise ChildError when it does not come up."""
        early_deaths = 0
        while True:
            started = time.monotonic()
            status = await self._run_once()
            early_deaths = early_deaths + 1 if time.monotonic() - started < LONG_LIFE_SECONDS else 0
            if early_deaths >= MOST_EARLY_DEATHS and not self.has_come_up:
                raise ChildError(f"{self.name} does not stay up (exit {status}):\n{tail(self.log_path)}")
            pause = backoff_seconds(early_deaths)
            why = {"said": tail(self.log_path, 1), "log": str(self.log_path)}
            log.warning("child_died", child=self.name, status=status, again_in_seconds=pause, **why)
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        with _appended(self.log_path) as output:
            self._process = await asyncio.create_subprocess_exec(
                *owned_command(self._argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self._environ),
                start_new_session=True,  # Ctrl-C reaches the owner alone, which ends its children in order
            )
        return await self._process.wait()

    async def stop(self, seconds: float) -> None:
        """Ask the process to end, and kill it when it has not ended within `seconds`."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            log.warning("child_killed", child=self.name)
            process.kill()
            await process.wait()


def fresh_log(directory: Path, name: str) -> Path:
    """Return the log file of a child, and begin a new one once it has grown large."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.log"
    if path.exists() and path.stat().st_size > MOST_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    path.touch(mode=0o600)
    return path


def _appended(path: Path) -> BinaryIO:
    """Open the log to append, or nothing where there is no place for a file."""
    try:
        return path.open("ab")
    except OSError:
        return Path(os.devnull).open("ab")


def backoff_seconds(failures: int) -> float:
    """Return how long to wait before the next try."""
    return min(LONGEST_PAUSE_SECONDS, 0.25 * (1 << min(failures, 10)))


def tail(path: Path, lines: int = 5) -> str:
    """Return the last lines of a log, nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""
