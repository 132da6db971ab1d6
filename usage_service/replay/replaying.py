"""Replay of the log through an analysis: from a checkpoint on, with checkpoints as it goes, ended by Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from usage_service.log.history import Log, LogReadError, StoredEvent
from usage_service.replay.analyses import Analysis, AnalysisFile, ReplayError
from usage_service.replay.checkpoints import CheckpointFile
from usage_service.replay.stopping import StoppedError, stopping

ReadAfter = Callable[[int, int | None], Log]
"""A function for the log with the replay's filters, after a position and up to another."""


class Replay:
    """A replay: an analysis, its state, and the position of the last event that was applied."""

    def __init__(self, analysis: AnalysisFile, read_after: ReadAfter, after: int, upto: int | None) -> None:
        self.position = after
        self._analysis = analysis
        self._read_after = read_after
        self._upto = upto
        self._last: tuple[int, str] | None = None
        self._state: Analysis = analysis.run("in the constructor", analysis.kind)

    def go_on_from(self, checkpoint: CheckpointFile) -> None:
        """Go on from a checkpoint, if there is one. Raise ReplayError when it does not fit this replay."""
        loaded = checkpoint.load()
        if loaded is not None:
            head, self._state = loaded
            self.position, self._last = head.position, head.last
            self._check_reach(checkpoint.path)

    def _check_reach(self, path: Path) -> None:
        """Raise ReplayError where the checkpoint is of another log, or after the end of this replay."""
        where = f"position {self.position}, where {path} is"
        if self._upto is not None and self.position > self._upto:
            raise ReplayError(f"--upto is before {where}; --restart begins anew")
        if self._read_after(self.position, None).end < self.position:
            raise ReplayError(f"--source ends before {where}: it is another log; --restart begins anew")
        if self._last is not None:
            position, event_id = self._last
            for event in self._last_event(position):
                if str(event.event_id) != event_id:
                    raise ReplayError(
                        f"--source has another event {position} than {path} was made from; --restart begins anew"
                    )

    def _last_event(self, position: int) -> list[StoredEvent]:
        """Return the event at a checkpoint's position, none where it was dropped since; run() raises other errors."""
        try:
            return list(self._read_after(position - 1, position))
        except LogReadError:
            return []

    def log(self) -> Log:
        """Return the part of the log that is still to be applied."""
        return self._read_after(self.position, self._upto)

    def run(self, log: Log, checkpoint: CheckpointFile | None, every: int, moved: Callable[[int], None]) -> None:
        """Apply `log`, saving a checkpoint after each `every` events, at the end, and when it is stopped.

        `moved` is called with the position. Raise StoppedError after SIGINT or SIGTERM, once a checkpoint is saved.
        """
        self._save(checkpoint)  # a state that cannot be saved is an error at once
        with stopping() as stop:
            try:
                since = 0
                for batch in stop.between(_slices(log, every)):
                    self._apply(batch)
                    since += batch.num_rows
                    if since >= every:
                        self._save(checkpoint)
                        since = 0
                    moved(self.position)
            except StoppedError:
                self._save(checkpoint)
                raise
            self.position = max(self.position, log.end)
            self._save(checkpoint)

    @property
    def is_empty(self) -> bool:
        """Return whether no event was applied, nor was before the checkpoint."""
        return self._last is None

    def result(self) -> object:
        """Return the analysis's result for all events that were applied. Raise ReplayError."""
        return self._analysis.run("in result()", self._state.result)

    def _apply(self, batch: pa.RecordBatch) -> None:
        first, last = (int(str(batch.column("position")[row].as_py())) for row in (0, -1))
        wanted = batch.select(self._analysis.columns)
        self._analysis.run(f"in apply(), positions {first} to {last}", lambda: self._state.apply(wanted))
        self.position, self._last = last, (last, str(batch.column("event_id")[-1].as_py()))

    def _save(self, checkpoint: CheckpointFile | None) -> None:
        if checkpoint is not None:
            checkpoint.save(self.position, self._last, self._state)


def _slices(log: Log, most: int) -> Iterator[pa.RecordBatch]:
    """Read the batches in slices of `most` rows at most, the number of events between two checkpoints."""
    for batch in log.batches():
        for start in range(0, batch.num_rows, most):
            yield batch.slice(start, most)
