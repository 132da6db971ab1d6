"""State of mirrors, as the database of the log has it: how far they are."""

from __future__ import annotations

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

LONG_SECONDS = 600.0


class MirrorError(msgspec.Struct, frozen=True):
    """The last failure of a mirror."""

    code: str
    message: str


class MirrorState(msgspec.Struct, frozen=True):
    """State of a mirror: the positions after which it begins, up to which it has and was found to have every event.

    `behind_seconds` is how long ago the first event that it lacks was recorded, `differing` how many loads were found
    to be other than the log, `waits_for` the limit of BigQuery's that the next load waits for.
    """

    mirror: str
    begins_after: int
    position: int
    verified_to: int
    behind: int
    behind_seconds: float
    differing: int
    failures: int
    error: MirrorError | None
    waits_for: str | None

    @property
    def is_well(self) -> bool:
        """Return whether nothing keeps it from having the log soon."""
        return not self.failures and not self.differing and self.behind_seconds < LONG_SECONDS

    def __str__(self) -> str:
        parts = [f"{self.behind} positions behind, for {self.behind_seconds:.0f} s"]
        if self.waits_for and self.behind:
            parts.append(f"waits for BigQuery's limit of {self.waits_for}")
        if self.differing:
            parts.append(f"loads that differ from the log: {self.differing}")
        if self.error:
            parts.append(f"failures in a row: {self.failures}, {self.error.code}")
        return "; ".join(parts)


async def mirror_states(connection: Connection) -> list[MirrorState]:
    """Return the states of all mirrors, by name."""
    rows = await connection.fetch(query("mirror", "states"))
    return [msgspec.convert(dict(row), MirrorState) for row in rows]
