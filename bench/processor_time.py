"""Processor time of programs, with that of their children."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil


class Clock:
    """Processor time of some programs and their children, from one moment on; of this process its own alone."""

    def __init__(self, programs: Mapping[str, int]) -> None:
        self._programs = programs
        self._began = self._times()
        self._at = time.perf_counter()

    def cores(self, passed: float | None = None) -> dict[str, float]:
        """Return the number of cores that each program has kept busy since, or in the seconds that passed for it."""
        passed = passed or time.perf_counter() - self._at
        return {name: seconds / passed for name, seconds in self.seconds().items()}

    def seconds(self) -> dict[str, float]:
        """Return the processor time of each program since."""
        now = self._times()
        return {name: now[name] - self._began[name] for name in self._programs}

    def _times(self) -> dict[str, float]:
        return {name: _processor_seconds(psutil.Process(pid)) for name, pid in self._programs.items()}


def _processor_seconds(process: psutil.Process) -> float:
    if process.pid == os.getpid():
        return time.process_time()
    seconds = 0.0
    for child in process.children(recursive=True):
        # One that has ended since, such as a session of PostgreSQL, is in the time of its parent, which is read last.
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:4])
    return seconds + sum(process.cpu_times()[:4])
