"""Work that is held by a lease and attempted: a build, a night that is to be planned, a job of a night."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from builder.aggregates.probe import Progress
from usage_service.shared.bigquery.control import Control


class Outcome(StrEnum):
    """The outcomes of an attempt."""

    SUCCEEDED = "succeeded"
    NO_DATA = "no_data"
    FAILED = "failed"
    SPLIT = "split"  # a job of several probes, which are tried in two
    RETRIED = "retried"
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease; or the end could not be reported, and the lease will be
    HANDED_BACK = "handed_back"


AFTER_FAILURE = {"queued": Outcome.RETRIED, "split": Outcome.SPLIT, "failed": Outcome.FAILED}


class Done(NamedTuple):
    """The bytes that were read, and the function that stores what was found."""

    bytes: int
    store: Callable[[], Awaitable[Outcome]]


class Work(Protocol):
    """Work that a worker holds at one attempt. The reports raise LeaseLostError or BuildCancelledElsewhereError."""

    kind: str

    @property
    def id(self) -> UUID:
        """Return the id, which a cancellation names."""

    @property
    def attempt(self) -> int:
        """Return the number of the attempt."""

    @property
    def about(self) -> Mapping[str, str | int]:
        """Return what logs and traces tell of it."""

    @property
    def traceparent(self) -> str | None:
        """Return the trace of who asked for it, if that was traced."""

    @property
    def successors(self) -> Sequence[Work] | None:
        """Return what was claimed in the transaction that ended it, to take its place; None: that has not looked."""

    def run(self, progress: Progress, control: Control) -> Done:
        """Do the work; blocks, reports its steps, and stops where `control` says so. Called in a thread."""

    async def heartbeat(self, stage: str | None = None, percent: int | None = None, read: int | None = None) -> None:
        """Renew the lease; record the stage and percent that were reached, and the bytes read, where given."""

    async def account(self, job: str, size: int, read: int, most: int | None) -> int | None:
        """Count what a job of the warehouse is to read, once, of `most` a day; return how many are left if too few.

        With no `most` the job is over, and has read so many. `read` are those of the attempt, this job's included.
        """

    async def fail(self, code: str, message: str, retry_in: timedelta | None) -> Outcome:
        """End the attempt; it is tried again after `retry_in`, while attempts are left. Return what became of it."""

    async def hand_back(self) -> None:
        """Let another worker go on at once; the attempt does not count."""


class Source(Protocol):
    """A queue of work of one kind, of which a worker keeps up to `most` running."""

    most: int

    async def claim(self, most: int, *, by_poll: bool) -> Sequence[Work]:
        """Return up to `most` of it, claimed. `by_poll`: no notification led here."""

    async def tend(self) -> None:
        """Do what is due by itself, such as to take work from workers that died."""

    def close(self) -> None:
        """Claim nothing any more."""
