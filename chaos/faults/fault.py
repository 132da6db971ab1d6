"""The form of a fault: how it begins and ends, how long it lasts, and what it stands on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from chaos.stack import Ground, Stack

HOLD_SECONDS = 30.0  # longer than the alert on recording takes: 5 s of failures that last 15 s
SHORT_SECONDS = 12.0  # for what does not keep events from being recorded
BACK_SECONDS = 5.0


def anywhere() -> str | None:
    """Say that a fault can be tried on any machine."""
    return None


def needs_root() -> str | None:
    """Say why a fault is not tried, where only root can do it."""
    return None if os.geteuid() == 0 else "needs root"


@dataclass(frozen=True)
class Fault:
    """A fault. `strike` is a context: it begins the fault, and ends it when the context is left."""

    name: str
    says: str  # in plain English, for the table
    strike: Callable[[Stack], AbstractContextManager[None]]
    hold: float = HOLD_SECONDS  # seconds; 0 for what happens at once
    back_within: float = BACK_SECONDS  # seconds after the fault's end
    ground: Ground = field(default_factory=Ground)
    missing: Callable[[], str | None] = anywhere
