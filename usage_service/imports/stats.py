"""What became of the lines and events of an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from usage_service.imports.refusals import Refusal

MOST_TOLD = 20  # refused lines, each by its number
MOST_REASONS = 100  # and types of events: the file must not fill the memory with them
MOST_PATHS = 200  # counted at once
OTHER = "other reasons"


class ImportStats(msgspec.Struct):
    """The numbers of an import: events by status and type, lines refused and left out by reason."""

    format: str = ""
    lines: int = 0
    began_after: int = 0  # the line, where an interrupted import was gone on with
    statuses: dict[str, int] = {}  # recorded, duplicate or restored events, refused lines
    types: dict[str, int] = {}  # events by status and type
    reasons: dict[str, int] = {}  # why lines were refused
    left_out: dict[str, int] = {}  # why lines were left out
    unmatched: dict[str, int] = {}  # paths that no rule matches; beyond a number, only the most frequent
    refusals: list[str] = []  # the first of the refused lines, each with its reason

    def refuse(self, place: str, refusal: Refusal) -> None:
        """Count a refused line; only the first are told one by one."""
        add(self.statuses, {"refused": 1})
        add(self.reasons, {refusal.kind: 1}, MOST_REASONS)
        if len(self.refusals) < MOST_TOLD:
            self.refusals.append(f"{place}: {refusal}")

    def leave_out(self, why: str, unmatched: str | None = None) -> None:
        """Count a line that is nothing to record, and the path that no rule matches."""
        add(self.left_out, {why: 1}, MOST_REASONS)
        if unmatched is not None:
            add(self.unmatched, {unmatched: 1})
            self._keep_frequent_paths()

    def _keep_frequent_paths(self) -> None:
        """Forget the rarer half of the paths where there are too many (a lossy count, whose head is right)."""
        if len(self.unmatched) > MOST_PATHS:
            self.unmatched = dict(Counter(self.unmatched).most_common(MOST_PATHS // 2))

    def count(self, events: Iterable[tuple[str, str]]) -> None:
        """Count events by status and type."""
        for (status, kind), number in Counter(events).items():
            add(self.statuses, {status: number})
            add(self.types, {f"{status} {kind}".rstrip(): number}, MOST_REASONS)

    def merge(self, other: ImportStats) -> None:
        """Add what became of further lines."""
        self.lines += other.lines
        add(self.statuses, other.statuses)
        add(self.types, other.types, MOST_REASONS)
        add(self.reasons, other.reasons, MOST_REASONS)
        add(self.left_out, other.left_out, MOST_REASONS)
        add(self.unmatched, other.unmatched)
        self._keep_frequent_paths()
        self.refusals += other.refusals[: MOST_TOLD - len(self.refusals)]


def add(numbers: dict[str, int], more: Mapping[str, int], most: int | None = None) -> None:
    """Add numbers by name; beyond `most` names, under one for all others."""
    for name, number in more.items():
        known = name in numbers or most is None or len(numbers) < most
        chosen = name if known else OTHER
        numbers[chosen] = numbers.get(chosen, 0) + number
