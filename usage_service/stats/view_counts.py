"""Views by days, weeks and more, kept in memory: an answer reads only what has changed since the last one.

It is kept as versions, each as of one state of the projection, so that who has a snapshot from before what was read
last is answered from that snapshot, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np

from usage_service.probe_keys import Counts, Ints
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.view_columns import Columns, Described
from usage_service.windows import Days

MOST_BEHIND = 200_000  # positions: to look through more takes as long as to read the spans again
MOST_VERSIONS = 4
MOST_KEPT = 8_000_000  # numbers in the spans of a version: 32 MB, most of which versions share
FOUND, MISSING = range(2)

Span = tuple[int, date]  # how many days, and the first


class State(NamedTuple):
    """Which version of the projection there is, from which position on there is a log, and the days that it is of."""

    generation: UUID
    changed_at: int
    whole_from: int
    first_day: date | None
    last_day: date | None


class Views(NamedTuple):
    """What was found and what was missing in a window, a row each, by column."""

    counts: Ints
    columns: Described


@dataclass
class _Version:
    generation: UUID
    changed_at: int
    columns: Columns = field(default_factory=Columns)
    spans: dict[Span, Counts] = field(default_factory=dict)  # those read last come last

    async def following(self, connection: Connection, changed_at: int) -> _Version:
        """The version after this one that the connection sees."""
        rows = await connection.fetch(query("view_counts", "changed"), self.changed_at, changed_at)
        series, channels = [row["series"] for row in rows], [row["channel"] for row in rows]
        places = await self.columns.find(connection, series, channels)
        changed = {(row["days"], row["first_day"]) for row in rows}
        spans = {
            span: _widened(counts, len(self.columns)) if span in changed else counts
            for span, counts in self.spans.items()
        }
        for place, row in zip(places, rows, strict=True):
            counts = spans.get((row["days"], row["first_day"]))
            if counts is not None:
                counts[:, place] = row["found"], row["missing"]
        return _Version(self.generation, changed_at, self.columns, spans)

    async def read(self, connection: Connection, wanted: set[Span]) -> dict[Span, Counts]:
        """What is wanted, through a connection that sees this version."""
        held = {span: self.spans[span] for span in wanted if span in self.spans}
        missing = sorted(wanted - held.keys())
        if missing:
            held |= await self._load(connection, missing)
        kept = {span: counts for span, counts in self.spans.items() if span not in held} | held
        self.spans = latest_of(kept, len(self.columns))
        return held

    async def _load(self, connection: Connection, spans: Sequence[Span]) -> dict[Span, Counts]:
        loaded = {span: np.zeros((2, 0), dtype=np.int32) for span in spans}
        days, firsts = [span[0] for span in spans], [span[1] for span in spans]
        for row in await connection.fetch(query("view_counts", "loaded"), days, firsts):
            places = await self.columns.find(connection, row["series"], row["channels"])
            counts = np.zeros((2, len(self.columns)), dtype=np.int32)
            counts[:, places] = row["found"], row["missing"]
            loaded[row["days"], row["first_day"]] = counts
        return loaded

    def total(self, spans: Iterable[Counts]) -> Views:
        """Their sum."""
        total = np.zeros((2, len(self.columns)), dtype=np.int64)
        for counts in spans:
            total[:, : counts.shape[1]] += counts
        return Views(total, self.columns.described())


def latest_of(spans: dict[Span, Counts], columns: int) -> dict[Span, Counts]:
    """A copy with as many as may be kept, those that were read last."""
    most = MOST_KEPT // max(2 * columns, 1)
    return dict(list(spans.items())[-most:])


def _widened(counts: Counts, columns: int) -> Counts:
    """A copy with so many columns."""
    return np.pad(counts, ((0, 0), (0, columns - counts.shape[1])))


class ViewCounts:
    """Those of the latest versions, for any number of readers at a time."""

    def __init__(self) -> None:
        self._versions: list[_Version] = []

    async def read(self, connection: Connection, windows: Sequence[Days]) -> list[Views]:
        """What was viewed in each window, as the connection's snapshot has it."""
        return await self._read(connection, await read_state(connection), windows)

    async def read_known(self, connection: Connection, first: date | None, end: date | None) -> Views:
        """The same from one day to before another, each None for any."""
        state = await read_state(connection)
        day = timedelta(days=1)
        if state.first_day is None or state.last_day is None or (end is not None and end <= state.first_day):
            return _Version(state.generation, state.changed_at).total(())
        last = min(end - day, state.last_day) if end else state.last_day
        return (await self._read(connection, state, [Days(max(first or state.first_day, state.first_day), last)]))[0]

    async def _read(self, connection: Connection, state: State, windows: Sequence[Days]) -> list[Views]:
        firsts, lasts = [days.first for days in windows], [days.last for days in windows]
        rows = await connection.fetch(query("view_counts", "spans"), firsts, lasts)
        made_of: list[list[Span]] = [[] for _ in windows]
        for row in rows:
            made_of[row["number"] - 1].append((row["days"], row["first_day"]))
        version = await self._version(connection, state)
        held = await version.read(connection, set().union(*made_of))
        return [version.total(map(held.__getitem__, spans)) for spans in made_of]

    async def _version(self, connection: Connection, state: State) -> _Version:
        """The one that the connection sees."""
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
        """The latest that holds nothing which the snapshot does not; none where too much came after it, or is gone."""
        since = max(state.changed_at - MOST_BEHIND, min(state.whole_from - 1, state.changed_at))
        fitting = [
            version
            for version in self._versions
            if version.generation == state.generation and since <= version.changed_at <= state.changed_at
        ]
        return max(fitting, key=lambda version: version.changed_at, default=None)


async def read_state(connection: Connection) -> State:
    """What the connection sees."""
    [row] = await connection.fetch(query("view_counts", "state"))
    return State(*row)
