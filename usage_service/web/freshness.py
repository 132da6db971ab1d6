"""Parameters for the freshness of an answer, and the problem when it is not fresh in time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.problems import Problem
from usage_service.projections.freshness import Positions
from usage_service.projections.state import Projection


class FreshnessParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Freshness: the answer waits up to `wait` seconds until it has seen the event at position `at_least`."""

    at_least: Annotated[
        int, Meta(ge=0, le=LARGEST_POSITION, description="the log position that the answer must have seen")
    ] = 0
    wait: Annotated[int, Meta(ge=0, le=60, description="seconds to wait for that position")] = 2


async def await_position(positions: Positions, projections: Collection[Projection], asked: FreshnessParameters) -> None:
    """Wait until the projections reach the position; raise a Problem (503) with their positions if not in time."""
    if not await positions.reach(projections, asked.at_least, asked.wait):
        raise not_fresh(asked.at_least, positions.known(projections))


def not_fresh(at_least: int, at: dict[str, int]) -> Problem:
    """Return the problem (503) of projections that have not reached a position; `at` are their positions."""
    behind = ", ".join(f"{name} is at {position}" for name, position in sorted(at.items()) if position < at_least)
    return Problem(
        503,
        "Not as fresh yet",
        f"position {at_least} is not reached: {behind}; ask again, or with a longer wait",
        headers={"Retry-After": "1", "Log-Position": str(min(at.values()))},
        positions=at,
    )
