"""The parameters by which a caller says how fresh an answer has to be, and what it hears when it is not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from usage_service.problems import Problem
from usage_service.projections.freshness import Positions
from usage_service.projections.state import Projection


class FreshnessParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every answer from projections takes: it waits up to `wait` seconds until it has seen event `at_least`."""

    at_least: Annotated[int, Meta(ge=0, le=2**62, description="the log position that has to be seen")] = 0
    wait: Annotated[int, Meta(ge=0, le=60, description="seconds to wait for it")] = 2


async def await_position(positions: Positions, projections: Collection[Projection], asked: FreshnessParameters) -> None:
    """Waits until the projections are where the caller wants them; raises 503, naming how far they are."""
    if not await positions.reach(projections, asked.at_least, asked.wait):
        raise not_fresh(asked.at_least, positions.known(projections))


def not_fresh(at_least: int, at: dict[str, int]) -> Problem:
    """503: the answer has not seen what it should have."""
    behind = ", ".join(f"{name} is at {position}" for name, position in sorted(at.items()) if position < at_least)
    return Problem(
        503,
        "Not as fresh yet",
        f"position {at_least} is not reached: {behind}; ask again, or with a longer wait",
        headers={"Retry-After": "1", "Log-Position": str(min(at.values()))},
        positions=at,
    )
