"""The event log: `usage_service.log.read()` reads it as Arrow or as typed events, from any source."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Log", "LogReadError", "StoredEvent", "events_of", "read"]

if TYPE_CHECKING:
    from usage_service.log.history import Log, LogReadError, StoredEvent, events_of, read
else:

    def __getattr__(name: str) -> object:
        """Import the readers when they are first used: the server needs the rooms of this package, not all of it."""
        if name in __all__:
            return getattr(import_module("usage_service.log.history"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
