"""Sinks: where builders take rows besides this service, and what each lacks."""

from __future__ import annotations

import msgspec

from usage_service.builds.requests import BuildError
from usage_service.queries import query
from usage_service.shared.postgres import Connection

LONG_SECONDS = 600.0


class SinkState(msgspec.Struct, frozen=True):
    """State of a sink for one channel: builds whose rows it lacks, since when they might be there."""

    sink: str
    product: str
    channel: str
    failures: int
    error: BuildError | None
    waiting: int
    overdue_seconds: float

    @property
    def is_behind(self) -> bool:
        """Return whether rows wait for more than to go together with others."""
        return self.failures > 0 or self.overdue_seconds > LONG_SECONDS

    def __str__(self) -> str:
        failed = f"; failures in a row: {self.failures}, {self.error.code}" if self.error else ""
        return f"builds that wait: {self.waiting}, overdue for {self.overdue_seconds:.0f} s{failed}"


async def sink_states(connection: Connection) -> list[SinkState]:
    """Return the states of all sinks, by channel."""
    rows = await connection.fetch(query("builds", "sinks"))
    return [msgspec.convert(dict(row), SinkState) for row in rows]
