"""How far a replay is, and its state, in a file: what was kept last is whole at any moment.

The file is a line of JSON (Head) and a pickle. Unpickling runs code, so one goes on only from files of one's own.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import msgspec

from usage_service.replay.analyses import Analysis, AnalysisFile, ReplayError
from usage_service.shared.files import sync_directory

FORMAT = 1


class Head(msgspec.Struct, frozen=True):
    """What the state was made by and from; `last` is the position and id of the event applied last, if any."""

    format: int
    analysis: str
    filters: dict[str, str | None]
    position: int
    last: tuple[int, str] | None


@dataclass(frozen=True)
class CheckpointFile:
    """Where a replay of an analysis over filtered events is kept."""

    path: Path
    analysis: AnalysisFile
    filters: dict[str, str | None]

    def load(self) -> tuple[Head, Analysis] | None:
        """What was kept, if anything. Raises ReplayError when it is of another file or other filters."""
        try:
            line, _, state = self.path.read_bytes().partition(b"\n")
            head = msgspec.json.decode(line, type=Head)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ReplayError(f"{self.path} is not a checkpoint ({error}); --restart begins anew") from None
        self._check(head)
        try:
            return head, pickle.loads(state)
        except Exception as error:
            raise ReplayError(f"{self.path} does not load ({error}); --restart begins anew") from error

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
        """Takes the place of what was kept before, in one step and on the disk on return."""
        head = Head(FORMAT, self.analysis.digest, self.filters, position, last)
        try:
            pickled = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # whatever a class does when it is pickled
            raise ReplayError(f"{self.analysis.path}: the state cannot be pickled for --checkpoint: {error}") from error
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            with partial.open("wb") as file:
                file.write(msgspec.json.encode(head) + b"\n" + pickled)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise ReplayError(f"{self.path} cannot be written: {error.strerror}") from None
