"""Analyses: an analyst's Python file with one class, which is given the log batch after batch and has a result."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar, cast

import pyarrow as pa

from usage_service.log.arrow import SCHEMA
from usage_service.shared.errors import UserError

MODULE = "usage_analysis"  # the name that the file is imported and its state pickled under

Made = TypeVar("Made")


class ReplayError(UserError):
    """A replay cannot start, go on or end; the message names the file and line, or the option."""


class Analysis(Protocol):
    """The class that the file defines. Its constructor takes no argument and makes the state before the first event."""

    def apply(self, batch: pa.RecordBatch) -> None:
        """Apply the next events to the state."""

    def result(self) -> object:
        """Return the result: anything that is a table to Arrow, a list of dicts, a dict, or any object to print."""


@dataclass(frozen=True)
class AnalysisFile:
    """An analysis's file, its class, and a digest of the file."""

    path: Path
    kind: type[Analysis]
    digest: str

    @property
    def types(self) -> tuple[str, ...] | None:
        """Return the types of events that the class asks for, or None for all."""
        named = getattr(self.kind, "types", None)
        return (named,) if isinstance(named, str) else tuple(named) if named is not None else None

    @property
    def columns(self) -> list[str]:
        """Return the columns that the class asks for, or all of them. Raise ReplayError for an unknown one."""
        named = getattr(self.kind, "columns", None)
        if named is None:
            return SCHEMA.names
        if isinstance(named, str) or (unknown := [name for name in named if name not in SCHEMA.names]):
            what = named if isinstance(named, str) else unknown[0]
            raise ReplayError(f"{self.path}: columns: {what!r}; give a list of {', '.join(SCHEMA.names)}")
        return list(named)

    def run(self, what: str, work: Callable[[], Made]) -> Made:
        """Return the result of `work`, code of the file. Raise ReplayError with the line when it raises."""
        return _run(self.path, what, work)


def load_analysis(path: Path) -> AnalysisFile:
    """Import the file, as `python` would run it, and find its class. Raise ReplayError."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}") from None
    module = _run(path, "when it is imported", lambda: _imported(path))
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == MODULE]
    found = [kind for kind in own if callable(getattr(kind, "apply", None)) and callable(getattr(kind, "result", None))]
    named = [kind for kind in found if kind.__name__ == "Analysis"]
    chosen = named or found
    if len(chosen) != 1:
        names = ", ".join(kind.__name__ for kind in chosen) or "none"
        raise ReplayError(
            f"{path} must define one class with apply(batch) and result(), or name it Analysis; has {names}"
        )
    return AnalysisFile(path, cast(type[Analysis], chosen[0]), digest)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise ReplayError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # where pickle and dataclasses look for its classes
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def _run(path: Path, what: str, work: Callable[[], Made]) -> Made:
    try:
        return work()
    except ReplayError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}:{line}" if line else str(path)
        raise ReplayError(f"{where}: {what}: {type(error).__name__}: {error}") from error
