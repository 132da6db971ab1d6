"""Planning of a night: which probes are read in which job, and which do not fit into its bytes and are left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from builder.aggregates.probe import BuildRequest
from usage_service.shared.bigquery.errors import PermanentWorkError

Estimate = Callable[[Sequence[BuildRequest]], int]
"""Returns the bytes that probes which are read alike take together, by dry runs; blocks; raises WorkError."""


class Candidate(NamedTuple):
    """A probe of the list, and the requests that are expected of it a day; None where nobody said."""

    request: BuildRequest
    requests_a_day: float | None


class PlannedJob(NamedTuple):
    """Probes to read together. `bytes` of all of them; None where a dry run failed: the job says why."""

    candidates: list[Candidate]
    bytes: int | None
    own_bytes: list[int | None]  # that each adds, where dry runs were made to find out


class Left(NamedTuple):
    """A probe that does not fit, and the bytes that it would add."""

    candidate: Candidate
    bytes: int


class Plan(NamedTuple):
    """The jobs of a night, and what is left for the next one."""

    jobs: list[PlannedJob]
    left: list[Left]


class Limits(NamedTuple):
    """The bytes that one job may read, that one of several probes may, and that all of the night may."""

    job_bytes: int
    together_bytes: int
    night_bytes: int


def plan_night(
    groups: Iterable[Sequence[Candidate]], estimate: Estimate, limits: Limits, show: Callable[[int], None]
) -> Plan:
    """Plan a night from groups of probes that are read alike.

    A group beyond the bytes of several is divided into as few parts as its probes' own bytes need, one that a dry run
    finds fault with is halved; a probe that is beyond a job's bytes by itself is left. Beyond the night's bytes those
    are left that catch the fewest requests for the bytes that they add.
    `show` is called with the number of probes that were estimated. Raise TransientWorkError when the warehouse gives
    no estimate.
    """
    planner = _Planner(estimate, limits, show)
    for group in groups:
        planner.add(group)
    return planner.plan()


@dataclass
class _Group:
    """Probes to be read together, and what that costs; `common` and `own` are only reckoned when bytes are short."""

    candidates: list[Candidate]
    bytes: int
    common: int = 0
    own: dict[UUID, int] = field(default_factory=dict)

    def without(self, candidate: Candidate) -> int:
        """Leave a probe out, and return the bytes that this saves: with the last one, what all have in common, too."""
        self.candidates.remove(candidate)
        saved = self.own[candidate.request.build_id] if self.candidates else self.bytes
        self.bytes -= saved
        return saved

    def adding(self, candidate: Candidate) -> int:
        """Return the bytes that a probe adds that was left out."""
        return self.own[candidate.request.build_id] + (0 if self.candidates else self.common)

    def put_back(self, candidate: Candidate) -> None:
        """Read a probe again that was left out."""
        self.bytes += self.adding(candidate)
        self.candidates.append(candidate)


class _Planner:
    def __init__(self, estimate: Estimate, limits: Limits, show: Callable[[int], None]) -> None:
        self._estimate = estimate
        self._limits = limits
        self._show = show
        self._groups: list[_Group] = []
        self._faulty: list[Candidate] = []
        self._left: list[Left] = []
        self._seen = 0

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Add a group, divided until its parts are without fault and within their bytes."""
        try:
            needed = self._estimated(candidates)
        except PermanentWorkError:
            if len(candidates) == 1:
                self._faulty += candidates
                self._count(1)
            else:
                self._add_parts(candidates, 2)
            return
        limit = self._limits.job_bytes
        if len(candidates) > 1:
            limit = min(limit, self._limits.together_bytes)
        if needed <= limit:
            self._groups.append(_Group(list(candidates), needed))
            self._count(len(candidates))
        elif len(candidates) == 1:
            self._left.append(Left(candidates[0], needed))
            self._count(1)
        else:
            self._add_parts(candidates, self._parts(candidates, needed, limit))

    def _parts(self, candidates: Sequence[Candidate], needed: int, limit: int) -> int:
        """Return how many parts are within the limit if their own bytes are alike; each reads what is common, too.

        The halves read that twice: together common + what the whole reads.
        """
        try:
            common = sum(map(self._estimated, _divided(candidates, 2))) - needed
        except PermanentWorkError:  # told when a half is added
            return 2
        fewest = math.ceil((needed - common) / (limit - common)) if limit > common else len(candidates)
        return max(2, min(fewest, len(candidates)))

    def _add_parts(self, candidates: Sequence[Candidate], parts: int) -> None:
        for part in _divided(candidates, parts):
            self.add(part)

    def _estimated(self, candidates: Sequence[Candidate]) -> int:
        return self._estimate([candidate.request for candidate in candidates])

    def _count(self, number: int) -> None:
        self._seen += number
        self._show(self._seen)

    def plan(self) -> Plan:
        """Return the plan, once all groups were added."""
        if sum(group.bytes for group in self._groups) > self._limits.night_bytes:
            self._leave_the_least_worth()
        jobs = [
            PlannedJob(
                group.candidates,
                group.bytes,
                [group.own.get(candidate.request.build_id) for candidate in group.candidates],
            )
            for group in self._groups
            if group.candidates
        ]
        return Plan(jobs + [PlannedJob([candidate], None, [None]) for candidate in self._faulty], self._left)

    def _leave_the_least_worth(self) -> None:
        for group in self._groups:
            self._tell_apart(group)
        worst = sorted(
            ((group, candidate) for group in self._groups for candidate in group.candidates),
            key=lambda at: _worth(at[1], at[0].own[at[1].request.build_id]),
        )
        over = sum(group.bytes for group in self._groups) - self._limits.night_bytes
        left = list[tuple[_Group, Candidate]]()
        for group, candidate in worst:
            if over <= 0:
                break
            over -= group.without(candidate)
            left.append((group, candidate))
        for group, candidate in reversed(left):  # what fits into the rest, the best first
            if (needed := group.adding(candidate)) <= -over:
                over += needed
                group.put_back(candidate)
            else:
                self._left.append(Left(candidate, needed))

    def _tell_apart(self, group: _Group) -> None:
        """Reckon what all probes of a group read once, and what each adds, from a dry run of each by itself.

        The group reads common + the sum of own, and the n probes by themselves n * common + the sum of own.
        """
        alone = [self._estimated([candidate]) for candidate in group.candidates]
        others = len(alone) - 1
        group.common = max(0, sum(alone) - group.bytes) // others if others else 0
        group.own = {
            candidate.request.build_id: max(0, needed - group.common)
            for candidate, needed in zip(group.candidates, alone, strict=True)
        }
        group.bytes = group.common + sum(group.own.values())


def _divided(candidates: Sequence[Candidate], parts: int) -> list[Sequence[Candidate]]:
    """Return the candidates in so many parts, whose sizes differ by one at most."""
    bounds = [len(candidates) * part // parts for part in range(parts + 1)]
    return [candidates[first:last] for first, last in pairwise(bounds)]


def _worth(candidate: Candidate, own: int) -> float:
    """Return the requests a day for a byte; where nobody said what is requested, all probes are as good."""
    value = 1.0 if candidate.requests_a_day is None else candidate.requests_a_day
    return value / own if own else math.inf
