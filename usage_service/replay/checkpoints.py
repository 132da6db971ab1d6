"""Checkpoints of a replay: files of its position and state, each replaced in one step.

A file is a line of JSON (Head) and a pickle. Unpickling runs code: load only your own checkpoints.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import msgspec

from usage_service.replay.analyses import Analysis, AnalysisFile, ReplayError
from usage_service.shared.files import STDOUT, written_whole

FORMAT = 1


class Head(msgspec.Struct, frozen=True):
    """The origin of a state: analysis, filters, position; `last` is the position and id of the last event, if any."""

    format: int
    analysis: str
    filters: dict[str, str | None]
    position: int
    last: tuple[int, str] | None


@dataclass(frozen=True)
class CheckpointFile:
    """The checkpoint file of a replay of an analysis over filtered events."""

    path: Path
    analysis: AnalysisFile
    filters: dict[str, str | None]

    def load(self) -> tuple[Head, Analysis] | None:
        """Return the checkpoint, or None. Raise ReplayError when it is of another analysis or other filters."""
        found = self._read()
        if found is None:
            return None
        head, state = found
        self._check(head)
        try:
            return head, pickle.loads(state)
        except Exception as error:
            raise ReplayError(f"{self.path} does not load ({error}); --restart begins anew") from error

    def refuse_other_file(self) -> None:
        """Raise ReplayError where something else than a checkpoint would be written over."""
        self._read()

    def _read(self) -> tuple[Head, bytes] | None:
        if self.path == STDOUT or (self.path.exists() and not self.path.is_file()):
            raise ReplayError(f"--checkpoint {self.path}: is read and written again; name a file")
        try:
            line, _, state = self.path.read_bytes().partition(b"\n")
            return msgspec.json.decode(line, type=Head), state
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ReplayError(f"{self.path} is not a checkpoint ({error}); name another file, or remove it") from None

    def _check(self, head: Head) -> None:
        if head.format != FORMAT:
            raise ReplayError(f"{self.path} is of another version of this program; --restart begins anew")
        if head.analysis != self.analysis.digest:
            raise ReplayError(f"{self.analysis.path} has changed since {self.path} was kept; --restart begins anew")
        for name, now in self.filters.items():
            if head.filters.get(name) != now:
                was = head.filters.get(name) or "not given"
                raise ReplayError(f"--{name} was {was} when {self.path} was kept; give that, or --restart begins anew")

    def save(self, position: int, last: tuple[int, str] | None, state: Analysis) -> None:
        """Replace the checkpoint in one step, on the disk on return. Raise ReplayError when that fails."""
        head = Head(FORMAT, self.analysis.digest, self.filters, position, last)
        try:
            pickled = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # pickling runs the analysis's own code
            raise ReplayError(f"{self.analysis.path}: the state cannot be pickled for --checkpoint: {error}") from error
        try:
            with written_whole(self.path) as file:
                file.write(msgspec.json.encode(head) + b"\n" + pickled)
        except OSError as error:
            raise ReplayError(f"{self.path} cannot be written: {error.strerror}") from None
