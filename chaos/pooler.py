"""PgBouncer before the database of a trial, which is started again when it dies."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, suppress

from bench.stack import BenchError
from chaos.stack import Restarted, Stack
from tests.support import pooler

SESSIONS = 40


class RunningPooler:
    """A pooler; `more` is added to its configuration."""

    def __init__(self, stack: Stack, more: str = "") -> None:
        directory = stack.directory / f"pooler-{bool(more)}"
        directory.mkdir()
        self._configured = pooler.configured(stack.database, directory, SESSIONS, more)
        self.url = self._configured.url
        self._restarted = Restarted()
        self._process: subprocess.Popen[bytes] | None = None

    def keep_up(self) -> None:
        """Start it when it is due."""
        if self._process is None or self._restarted.due(self, self._process.poll() is None):
            null = subprocess.DEVNULL
            self._process = subprocess.Popen(self._configured.command, stdout=null, stderr=null)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    @property
    def accepts(self) -> bool:
        """Return whether it takes connections."""
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self._configured.port), 1).close()
            return True
        return False


def through_a_pooler(exits: ExitStack, stack: Stack) -> str:
    """Start a pooler that the programs go through, and return its address."""
    running = RunningPooler(stack)
    stack.pooler = running
    exits.callback(running.kill)
    if not stack.wait(lambda: running.accepts, 10):
        raise BenchError("the pooler did not start")
    return running.url


def needs_pooler() -> str | None:
    """Say why nothing is tried with a pooler, where there is none."""
    return None if pooler.PROGRAM else "needs PgBouncer 1.21 or later"
