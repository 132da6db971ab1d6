"""The log for analysts: `read()` it as Arrow, or as typed events, from any source.

from usage_service.log import read

read("log.parquet", types=["probe_viewed"]).table()
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from usage_service.events import EVENT_TYPES, OWN_TYPES
from usage_service.log.arrow import SCHEMA
from usage_service.log.batches import events_of, upcast
from usage_service.log.errors import LogReadError
from usage_service.log.exported import exported_source
from usage_service.log.mirrored import MirrorPlace
from usage_service.log.reading import LogFilter
from usage_service.log.sources import DatabaseSource, ServiceSource, Source
from usage_service.log.stored_events import StoredEvent
from usage_service.shared.settings import (
    ClientSettings,
    MirrorReaderSettings,
    SettingsError,
    kept_token,
    kept_url,
    load_settings,
)
from usage_service.shared.threads import close

__all__ = ["Log", "LogReadError", "StoredEvent", "events_of", "read"]


class Log:
    """A part of the log. Each reading of it gives the same events, up to `end`, in the order of positions."""

    def __init__(self, source: Source, after: int, upto: int | None, only: LogFilter) -> None:
        self._source = source
        self._upto = upto
        self._only = only
        self.after = after
        """The position that it begins after."""

    @cached_property
    def end(self) -> int:
        """Return the position it ends at: `upto`, or the last one at the first call. Raise LogReadError."""
        last = self._source.end()
        return last if self._upto is None else min(last, self._upto)

    @property
    def size(self) -> int:
        """Return how many events it has at most: the number of positions from `after` to `end`."""
        return max(0, self.end - self.after)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read record batches of `arrow.SCHEMA`, 10,000 rows at most, older events in the current schema versions.

        The next batch is read while one is in use; no more are held. Raise LogReadError, also midway: a reading that
        ends without an error is complete.
        """
        if not self.size:
            return
        last = self.after
        for batch in _read_ahead(self._source.batches(self.after, self.end, self._only)):
            if batch.num_rows:
                positions = np.concatenate(([last], batch.column("position").to_numpy()))
                if not (positions[1:] > positions[:-1]).all():
                    raise LogReadError(f"positions do not rise after {last}: these are several logs, or one twice")
                last = int(positions[-1])
                yield upcast(batch)

    def arrow(self) -> pa.RecordBatchReader:
        """Return the batches as a reader, which DuckDB and Polars take. It can be read once; call again for another."""
        return pa.RecordBatchReader.from_batches(SCHEMA, self.batches())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export Arrow's C stream: DuckDB and Polars take the log itself, and read it anew for each query."""
        reader: Any = self.arrow()
        return reader.__arrow_c_stream__(requested_schema)

    def table(self) -> pa.Table:
        """Read all events into memory: about 220 bytes an event."""
        return pa.Table.from_batches(list(self.batches()), SCHEMA)

    def __iter__(self) -> Iterator[StoredEvent]:
        """Read the events one by one; `typed_data()` gives the fields of an event's type."""
        for batch in self.batches():
            yield from events_of(batch)


def read(
    source: str | Path | None = None,
    *,
    after: int = 0,
    upto: int | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    types: Sequence[str] | str | None = None,
    product: str | None = None,
    visitor: UUID | str | None = None,
    token: str | None = None,
    partial: bool = False,
) -> Log:
    """Return the events after position `after` up to `upto` (included) that occurred from `since` to before `until`.

    `source` is the URL of a database (postgresql://) or of a service (http://, with its `token`), or an exported file,
    of any name; by default the database of DATABASE_URL, else the service of USAGE_SERVICE_URL,
    else the service on this machine. A time without a zone is UTC. Raise LogReadError for arguments that make no sense;
    nothing is read yet. Events after `after` that were dropped from the log come from the mirror that
    USAGE_SERVICE_MIRROR names; where there is none, reading raises LogReadError unless `partial`.
    """
    if after < 0 or (upto is not None and upto < 0):
        raise LogReadError("positions begin at 1: `after` and `upto` cannot be negative")
    if upto is not None and upto < after:
        raise LogReadError(f"no position is after {after} and up to {upto}")
    only = LogFilter(_types(types), product or None, _visitor(visitor), _time("since", since), _time("until", until))
    if only.since is not None and only.until is not None and only.since >= only.until:
        raise LogReadError(f"since {since} is not before until {until}: no event is between them")
    return Log(_find(source, token, partial), after, upto, only)


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read each batch in a thread while the one before it is in use."""
    with ThreadPoolExecutor(1, "log-reader") as thread:
        try:
            following = thread.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = thread.submit(next, batches, None)
                yield batch
        finally:
            thread.submit(close, batches).result()


def _find(source: str | Path | None, token: str | None, partial: bool) -> Source:
    try:
        name = str(source) if source is not None else os.environ.get("DATABASE_URL") or _service_url()
        if name.startswith(("postgresql://", "postgres://")):
            return DatabaseSource(name, partial, MirrorPlace.of(load_settings(MirrorReaderSettings)))
        if name.startswith(("http://", "https://")):
            return ServiceSource(name, token or load_settings(ClientSettings).token or kept_token(), partial)
    except SettingsError as error:
        raise LogReadError(str(error)) from None
    path = Path(name)
    if not path.is_file():
        why = "it is not a file, which can be read twice" if path.exists() else "there is no such file"
        known = "the URL of a database (postgresql://) or of a service (http://), or an exported file"
        raise LogReadError(f"{name} is no source of a log: {why}; give {known}")
    return exported_source(path)


def _service_url() -> str:
    return (not os.environ.get("USAGE_SERVICE_URL") and kept_url()) or load_settings(ClientSettings).url


def _types(types: Sequence[str] | str | None) -> tuple[str, ...] | None:
    if types is None:
        return None
    named = (types,) if isinstance(types, str) else tuple(types)
    known = {*EVENT_TYPES, *OWN_TYPES}
    for name in named:
        if name not in known and not re.fullmatch("x_[a-z0-9_]+", name):
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))} and x_..."
            raise LogReadError(f"{name!r} is not a type of event; {hint}")
    if not named:
        raise LogReadError("types: name one at least, or give None for all")
    return named


def _visitor(visitor: UUID | str | None) -> UUID | None:
    try:
        return UUID(str(visitor)) if visitor is not None else None
    except ValueError:
        raise LogReadError(f"visitor {visitor!r} is not a UUID: the log knows visitors by pseudonyms") from None


def _time(name: str, time: datetime | str | None) -> datetime | None:
    try:
        given = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        raise LogReadError(f"{name} {time!r} is not a time such as 2026-11-23 or 2026-11-23T10:00:00Z") from None
    return given.replace(tzinfo=UTC) if given is not None and given.tzinfo is None else given
