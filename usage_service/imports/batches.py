"""Batches of events, closed before a request would be too large: at a number of events and at a number of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from usage_service.imports.events_to_send import EventToSend
from usage_service.imports.refusals import Refusal
from usage_service.imports.source import Kept
from usage_service.imports.stats import ImportStats

MOST_EVENTS = 1_000  # what a request takes
MOST_BYTES = (1 << 20) - 1_024  # of 1 MiB that a request takes
MOST_LINES = 10_000  # of which most are left out
MOST_REFUSED = 1_000


class PreparedLine(NamedTuple):
    """A line that is ready: its events, its refusal, or why it is left out.

    `text` is what a refusal tells of it, `position` is where an import goes on after it, and `seen` says how often
    each of its events was read by then.
    """

    number: int
    position: int
    events: Sequence[EventToSend] = ()
    seen: Sequence[tuple[bytes, int]] = ()
    refusal: Refusal | None = None
    left_out: str | None = None
    unmatched: str | None = None
    text: Kept = None


class RefusedLine(msgspec.Struct, omit_defaults=True):
    """A refused line as `--refused` writes it."""

    file: str
    number: int
    field: str | None
    reason: str
    text: str | None


@dataclass
class Batch:
    """Events of one request, and what is to be kept once it was sent."""

    name: str
    events: list[EventToSend] = field(default_factory=list)
    origins: list[tuple[int, Kept]] = field(default_factory=list)  # the line of each event: its number and text
    stats: ImportStats = field(default_factory=ImportStats)
    refused: list[bytes] = field(default_factory=list)
    seen: dict[bytes, int] = field(default_factory=dict)  # of the lines that end in it
    position: int = 0  # where to go on after it
    size: int = 0  # of its events, in bytes
    sample: bytes | None = None  # an event that the log has

    def refuse(self, number: int, text: Kept, refusal: Refusal) -> None:
        """Count a refused line, and keep it."""
        self.stats.refuse(f"{self.name}:{number}", refusal)
        told = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
        line = RefusedLine(self.name, number, refusal.where, refusal.reason, told)
        self.refused.append(msgspec.json.encode(line))

    def add(self, line: PreparedLine, events: Sequence[EventToSend], size: int) -> None:
        """Add some events of a line, which are of so many bytes."""
        self.events += events
        self.origins += [(line.number, line.text)] * len(events)
        self.size += size

    def end_line(self, line: PreparedLine) -> None:
        """Count a line whose events are all in this batch and those before."""
        self.stats.lines += 1
        self.position = line.position
        self.seen.update(line.seen)
        if line.refusal:
            self.refuse(line.number, line.text, line.refusal)
        elif line.left_out:
            self.stats.leave_out(line.left_out, line.unmatched)

    def has_room(self, events: int, size: int) -> bool:
        """Return whether so many events of so many bytes fit in."""
        return (
            len(self.events) + events <= MOST_EVENTS
            and self.size + size <= MOST_BYTES
            and self.stats.lines < MOST_LINES
            and len(self.refused) < MOST_REFUSED
        )


def batches(name: str, lines: Iterable[PreparedLine]) -> Iterator[Batch]:
    """Divide the lines of a file into batches; the events of a line stay together where they can."""
    batch = Batch(name)
    for line in lines:
        for events, size in _parts(line.events):
            if not batch.has_room(len(events), size):
                yield batch
                batch = Batch(name, position=batch.position)
            batch.add(line, events, size)
        batch.end_line(line)
    if batch.stats.lines:
        yield batch


def _parts(events: Sequence[EventToSend]) -> Iterator[tuple[Sequence[EventToSend], int]]:
    """Divide the events of a line where they are more than one request takes; each part with its bytes."""
    whole = sum(len(event.body) + 1 for event in events)
    if whole <= MOST_BYTES and len(events) <= MOST_EVENTS:
        yield events, whole
        return
    part: list[EventToSend] = []
    size = 0
    for event in events:
        if part and (len(part) == MOST_EVENTS or size + len(event.body) + 1 > MOST_BYTES):
            yield part, size
            part, size = [], 0
        part.append(event)
        size += len(event.body) + 1
    yield part, size
