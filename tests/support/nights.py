"""Nights in tests: asking for one, following it, and readings whose rows the test makes up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from builder.aggregates.probe import BuildRequest, BuiltTogether, Progress, Rows
from builder.nights.work import Readings
from tests.support.builders import ROW
from tests.support.servers import Connection, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError

COMMON_BYTES, OWN_BYTES = 1_000, 100

Read = Callable[[UUID, Sequence[BuildRequest], Control], Sequence[Rows | PermanentWorkError]]
"""Returns what comes of each probe of a job, or raises what the whole job fails with."""


def a_row_each(_job: UUID, requests: Sequence[BuildRequest], _control: Control) -> Sequence[Rows]:
    return [[] if request.probe.endswith("none") else [ROW] for request in requests]


class MadeUp:
    """Readings of up to `most` probes at once, for COMMON_BYTES and OWN_BYTES a probe; `jobs` are those read."""

    def __init__(self, read: Read = a_row_each, most: int = 10) -> None:
        self._read = read
        self._most = most
        self.jobs: list[tuple[UUID, list[str]]] = []
        self.begun = threading.Event()

    @property
    def readings(self) -> Readings:
        return Readings(self._alike, self._estimate, self._aggregate)

    def _alike(self, requests: Sequence[BuildRequest]) -> Sequence[Sequence[BuildRequest]]:
        return [requests[first : first + self._most] for first in range(0, len(requests), self._most)]

    def _estimate(self, requests: Sequence[BuildRequest], _control: Control) -> int:
        return COMMON_BYTES + OWN_BYTES * len(requests)

    def _aggregate(
        self, job: UUID, requests: Sequence[BuildRequest], progress: Progress, control: Control
    ) -> BuiltTogether:
        needed = self._estimate(requests, control)
        control.admit(f"shared_job-{job.hex}", needed)
        progress("aggregating", 10, needed)
        self.jobs.append((job, [request.probe for request in requests]))
        self.begun.set()
        return BuiltTogether(needed, [str(job)], iter(self._read(job, requests, control)))


async def request_night(
    database: Connection, probes: Sequence[str], values: Sequence[float | None] = (), most_bytes: int | None = None
) -> UUID:
    """Ask for a night of fog's nightly channel."""
    night: UUID = await database.fetchval(
        "SELECT night_id FROM request_night('fog', 'nightly', $1, $2, $3, 'test')",
        list(probes),
        list(values) or [None] * len(probes),
        most_bytes,
    )
    return night


async def until_over(database: Connection, night: UUID, seconds: float = 30) -> None:
    """Wait until the night has ended."""

    async def over() -> bool:
        return bool(await database.fetchval("SELECT state = 'over' FROM nights WHERE night_id = $1", night))

    await eventually(over, "the night is over", seconds)
