"""Progress of long work: a bar on a terminal, a log line every few seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

LOG_EVERY_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Report(Protocol):
    """A function that is called with how much of the work is done."""

    def __call__(self, done: int) -> None:
        """Report that `done` of the total is done."""


class NotedReport(Protocol):
    """A report that may say more of the work in a few words."""

    def __call__(self, done: int, note: str = "") -> None:
        """Report that `done` of the total is done, and what `note` says."""


@contextmanager
def progress(what: str, total: int | None, *, in_bytes: bool = False) -> Iterator[NotedReport]:
    """Show the progress of the work named `what` on stderr; without a total, no time that is left is told."""
    if sys.stderr.isatty():
        with _bar(in_bytes) as bar:
            task = bar.add_task(what, total=total)

            def report(done: int, note: str = "") -> None:
                bar.update(task, completed=done, description=f"{what}, {note}" if note else what)

            yield report
    else:
        yield _logging(what, total)


def _bar(in_bytes: bool) -> Progress:
    rate = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(), _RateColumn())
    columns = TextColumn("{task.description}", markup=False), BarColumn(), *rate, TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


class _RateColumn(ProgressColumn):
    """The column of the rate: how much is done a second, or a minute where that is slow."""

    def render(self, task: Task) -> Text:
        """Return the rate as text, empty while it is not known."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        return Text(f"{speed:,.0f}/s" if speed >= 1 else f"{speed * 60:,.0f}/min")


def _logging(what: str, total: int | None) -> NotedReport:
    began = last = time.monotonic()

    def report(done: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            a_second = done / (last - began)
            left = {} if total is None or not done else {"seconds_left": round((total - done) / a_second)}
            more = {"note": note} if note else {}
            log.info("progress", what=what, done=done, total=total, a_second=round(a_second), **left, **more)

    return report
