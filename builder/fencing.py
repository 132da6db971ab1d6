"""Fences: the errors that the functions of `schema.sql` raise for an attempt that is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

STALE_ATTEMPT, CANCELLED = "UB001", "UB003"


class LeaseLostError(Exception):
    """Raised when the work has moved on without this worker. Nothing was changed; the next attempt adopts its job."""


class BuildCancelledElsewhereError(Exception):
    """Raised when the work of this attempt was cancelled. Nothing was changed; its warehouse job is not needed."""


@contextmanager
def fence() -> Iterator[None]:
    """Raise LeaseLostError or BuildCancelledElsewhereError for the database's errors that say so."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == STALE_ATTEMPT:
            raise LeaseLostError(str(error)) from None
        if error.sqlstate == CANCELLED:
            raise BuildCancelledElsewhereError(str(error)) from None
        raise
