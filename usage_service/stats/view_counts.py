"""View counts by buckets of days, kept in memory: an answer reads only what has changed since the last one.

A bucket is a run of 1, 7, 28 or 112 days. Buckets are kept in versions, each as of one state of the projection, so that
a connection with an older snapshot is answered from that snapshot, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np

from usage_service.hidden_probes import HiddenNames
from usage_service.probe_keys import Counts, Ints
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.listings import Listings
from usage_service.stats.view_columns import ColumnIndex, Columns
from usage_service.windows import Days

MOST_BEHIND = 200_000  # positions: to scan more of them takes as long as to read the buckets again
MOST_VERSIONS = 4
MOST_KEPT = 8_000_000  # numbers in the buckets of a version: 32 MB, most of which versions share
USUAL_DAYS = (1, 7, 14, 28, 56, 90, 180, 365)
FOUND, MISSING = range(2)
FEW = 8  # one column in so many


class Bucket(NamedTuple):
    """A run of days that views are added up for."""

    days: int
    first_day: date


class State(NamedTuple):
    """State of the popularity projection: its version, the first position of a whole log, and the range of its days."""

    generation: UUID
    changed_at: int
    whole_from: int
    first_day: date | None
    last_day: date | None


class Views(NamedTuple):
    """Views in a window: counts of its buckets, each with a row of those found and one of those missing, by column."""

    buckets: Sequence[Counts]
    columns: ColumnIndex

    def counts(self, columns: Ints) -> Ints:
        """Return the views in each of some columns, which are in ascending order: a row of found, a row of missing."""
        # To pick many out of each bucket takes longer than to add up all.
        if len(columns) * FEW > len(self.columns.cells):
            total = np.zeros((2, len(self.columns.cells)), dtype=np.int64)
            for counts in self.buckets:
                total[:, : counts.shape[1]] += counts
            return total[:, columns]
        total = np.zeros((2, len(columns)), dtype=np.int64)
        for counts in self.buckets:
            known = int(np.searchsorted(columns, counts.shape[1]))  # what came later has none in it
            total[:, :known] += counts[:, columns[:known]]
        return total


@dataclass
class _Version:
    generation: UUID
    changed_at: int
    columns: Columns = field(default_factory=Columns)
    buckets: dict[Bucket, Counts] = field(default_factory=dict)  # least recently read first

    async def following(self, connection: Connection, changed_at: int) -> _Version:
        """Return the version that the connection sees, made from this one and what has changed since."""
        rows = await connection.fetch(query("view_counts", "changed"), self.changed_at, changed_at)
        series, channels = [row["series"] for row in rows], [row["channel"] for row in rows]
        places = await self.columns.find(connection, series, channels)
        changed = {(row["days"], row["first_day"]) for row in rows}
        buckets = {
            bucket: _widened(counts, len(self.columns)) if bucket in changed else counts
            for bucket, counts in self.buckets.items()
        }
        for place, row in zip(places, rows, strict=True):
            counts = buckets.get(Bucket(row["days"], row["first_day"]))
            if counts is not None:
                counts[:, place] = row["found"], row["missing"]
        return _Version(self.generation, changed_at, self.columns, buckets)

    async def read(self, connection: Connection, wanted: set[Bucket]) -> dict[Bucket, Counts]:
        """Return the wanted buckets, read through a connection that sees this version."""
        held = {bucket: self.buckets[bucket] for bucket in wanted if bucket in self.buckets}
        missing = sorted(wanted - held.keys())
        if missing:
            held |= await self._load(connection, missing)
        kept = {bucket: counts for bucket, counts in self.buckets.items() if bucket not in held} | held
        self.buckets = _most_recent(kept, len(self.columns))
        return held

    async def _load(self, connection: Connection, buckets: Sequence[Bucket]) -> dict[Bucket, Counts]:
        loaded = {bucket: np.zeros((2, 0), dtype=np.int32) for bucket in buckets}
        days, first_days = [bucket.days for bucket in buckets], [bucket.first_day for bucket in buckets]
        for row in await connection.fetch(query("view_counts", "loaded"), days, first_days):
            places = await self.columns.find(connection, row["series"], row["channels"])
            counts = np.zeros((2, len(self.columns)), dtype=np.int32)
            counts[:, places] = row["found"], row["missing"]
            loaded[Bucket(row["days"], row["first_day"])] = counts
        return loaded


def _most_recent(buckets: dict[Bucket, Counts], columns: int) -> dict[Bucket, Counts]:
    """Return as many buckets as may be kept, the most recently read ones."""
    most = MOST_KEPT // max(2 * columns, 1)
    return dict(list(buckets.items())[-most:])


def _widened(counts: Counts, columns: int) -> Counts:
    """Return a copy with as many columns, the new ones 0."""
    return np.pad(counts, ((0, 0), (0, columns - counts.shape[1])))


class ViewCounts:
    """View counts of the latest versions, for any number of concurrent readers, and which probes are listed."""

    def __init__(self) -> None:
        self.hidden = HiddenNames()
        self.listings = Listings()
        self._versions: list[_Version] = []

    async def read(self, connection: Connection, windows: Sequence[Days]) -> list[Views]:
        """Return the views in each window, as the connection's snapshot has them."""
        return await self._read(connection, await read_state(connection), windows)

    async def read_known(self, connection: Connection, first: date | None, end: date | None) -> Views:
        """Return the views from the day `first` to before the day `end`, as the snapshot has them; None is any day."""
        state = await read_state(connection)
        day = timedelta(days=1)
        if state.first_day is None or state.last_day is None or (end is not None and end <= state.first_day):
            return Views((), Columns().index())
        last = min(end - day, state.last_day) if end else state.last_day
        return (await self._read(connection, state, [Days(max(first or state.first_day, state.first_day), last)]))[0]

    async def read_ahead(self, connection: Connection) -> None:
        """Read what usual windows are made of, so that the first answers after a start are as fast as later ones."""
        state = await read_state(connection)
        last = state.last_day
        if last is not None:
            await self._read(connection, state, [Days(last - timedelta(days=days - 1), last) for days in USUAL_DAYS])

    async def _read(self, connection: Connection, state: State, windows: Sequence[Days]) -> list[Views]:
        firsts, lasts = [days.first for days in windows], [days.last for days in windows]
        rows = await connection.fetch(query("view_counts", "buckets"), firsts, lasts)
        made_of: list[list[Bucket]] = [[] for _ in windows]
        for row in rows:
            made_of[row["number"] - 1].append(Bucket(row["days"], row["first_day"]))
        version = await self._version(connection, state)
        held = await version.read(connection, set().union(*made_of))
        columns = version.columns.index()
        return [Views([held[bucket] for bucket in buckets], columns) for buckets in made_of]

    async def _version(self, connection: Connection, state: State) -> _Version:
        """Return the version that the connection sees, kept or made."""
        before = self._latest(state)
        if before is not None and before.changed_at == state.changed_at:
            return before
        if before is None:
            made = _Version(state.generation, state.changed_at)
        else:
            made = await before.following(connection, state.changed_at)
        self._versions = [*self._versions, made][-MOST_VERSIONS:]
        return made

    def _latest(self, state: State) -> _Version | None:
        """Return the latest kept version that is not newer than the snapshot.

        Return None when too many events came after it, or when some of them were dropped from the log.
        """
        since = max(state.changed_at - MOST_BEHIND, min(state.whole_from - 1, state.changed_at))
        fitting = [
            version
            for version in self._versions
            if version.generation == state.generation and since <= version.changed_at <= state.changed_at
        ]
        return max(fitting, key=lambda version: version.changed_at, default=None)


async def read_state(connection: Connection) -> State:
    """Return the state of the projection that the connection sees."""
    [row] = await connection.fetch(query("view_counts", "state"))
    return State(*row)
