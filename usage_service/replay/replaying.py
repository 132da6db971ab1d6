"""Replaying the log through an analysis: from a checkpoint on, kept as it goes, ended cleanly by Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from usage_service.log.history import Log, LogReadError, StoredEvent
from usage_service.replay.analyses import Analysis, AnalysisFile, ReplayError
from usage_service.replay.checkpoints import CheckpointFile
from usage_service.replay.stopping import StoppedError, stopping

ReadAfter = Callable[[int, int | None], Log]
"""The log with the replay's filters, after a position and up to another."""


class Replay:
    """One replay: an analysis, its state, and the position that it is at."""

    def __init__(self, analysis: AnalysisFile, read_after: ReadAfter, after: int, upto: int | None) -> None:
        self.position = after
        self._analysis = analysis
        self._read_after = read_after
        self._upto = upto
        self._last: tuple[int, str] | None = None
        self._state: Analysis = analysis.run("in the constructor", analysis.kind)

    def go_on_from(self, checkpoint: CheckpointFile) -> None:
        """Takes up what was kept, if anything. Raises ReplayError when that does not fit."""
        kept = checkpoint.load()
        if kept is not None:
            head, self._state = kept
            self.position, self._last = head.position, head.last
            self._check_reach(checkpoint.path)

    def _check_reach(self, path: Path) -> None:
        """A checkpoint goes on in the log that it was made from, and only forwards."""
        where = f"position {self.position}, where {path} is"
        if self._upto is not None and self.position > self._upto:
            raise ReplayError(f"--upto is before {where}; --restart begins anew")
        if self._read_after(self.position, None).end < self.position:
            raise ReplayError(f"--source ends before {where}: it is another log; --restart begins anew")
        if self._last is not None:
            position, event_id = self._last
            for event in self._kept_event(position):
                if str(event.event_id) != event_id:
                    raise ReplayError(
                        f"--source has another event {position} than {path} was made from; --restart begins anew"
                    )

    def _kept_event(self, position: int) -> list[StoredEvent]:
        """The event that a checkpoint ends with; none where it was dropped since. What else is wrong, run() says."""
        try:
            return list(self._read_after(position - 1, position))
        except LogReadError:
            return []

    def log(self) -> Log:
        """What is to be applied yet."""
        return self._read_after(self.position, self._upto)

    def run(self, log: Log, checkpoint: CheckpointFile | None, every: int, moved: Callable[[int], None]) -> None:
        """Applies `log`, keeping a checkpoint every so many events, at the end, and when it is stopped.

        `moved` is told the position. Raises StoppedError after SIGINT or SIGTERM, once what was applied is kept.
        """
        self._keep(checkpoint)  # a state that cannot be kept is told at once
        with stopping() as stop:
            try:
                since = 0
                for batch in stop.between(_slices(log, every)):
                    self._apply(batch)
                    since += batch.num_rows
                    if since >= every:
                        self._keep(checkpoint)
                        since = 0
                    moved(self.position)
            except StoppedError:
                self._keep(checkpoint)
                raise
            self.position = max(self.position, log.end)
            self._keep(checkpoint)

    def result(self) -> object:
        """The analysis's answer for all that was applied. Raises ReplayError."""
        return self._analysis.run("in result()", self._state.result)

    def _apply(self, batch: pa.RecordBatch) -> None:
        first, last = (int(str(batch.column("position")[row].as_py())) for row in (0, -1))
        wanted = batch.select(self._analysis.columns)
        self._analysis.run(f"in apply(), positions {first} to {last}", lambda: self._state.apply(wanted))
        self.position, self._last = last, (last, str(batch.column("event_id")[-1].as_py()))

    def _keep(self, checkpoint: CheckpointFile | None) -> None:
        if checkpoint is not None:
            checkpoint.save(self.position, self._last, self._state)


def _slices(log: Log, most: int) -> Iterator[pa.RecordBatch]:
    """The batches, none longer than what is applied between two checkpoints."""
    for batch in log.batches():
        for start in range(0, batch.num_rows, most):
            yield batch.slice(start, most)
