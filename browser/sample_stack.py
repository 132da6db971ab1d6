"""Local stack with sample data, as `make run` starts it, in a directory and on a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from usage_service.local.ports import free_port

START_SECONDS, STOP_SECONDS, POLL_SECONDS = 300.0, 60.0, 0.2
READY = "Ctrl-C stops everything"


class StackError(Exception):
    """Stack that did not start; the message has the end of its output."""


class SampleStack(NamedTuple):
    """URL of a stack's server, and its token."""

    url: str
    token: str


@contextmanager
def sample_stack() -> Iterator[SampleStack]:
    """Start a stack, wait until all of it answers, and remove it and its data at the end. Raise StackError."""
    with tempfile.TemporaryDirectory(prefix="usage-pictures-") as directory:
        data, said, port = Path(directory) / "data", Path(directory) / "said", free_port()
        command = [sys.executable, "-m", "usage_service", "up", "--port", str(port), "--data-dir", str(data)]
        own = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        with said.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=own)
        try:
            _wait(process, said)
            yield SampleStack(f"http://127.0.0.1:{port}", (data / "token").read_text().strip())
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _wait(process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while READY not in said.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise StackError(f"the local stack did not start:\n{said.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
