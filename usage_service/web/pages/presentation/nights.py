"""Nights for people: how far each is, what it costs, and what became of it in words."""

from __future__ import annotations

from typing import NamedTuple

from usage_service.builds.nights import Night
from usage_service.hotlist.budgets import TIB, Prices

STATES = {"planning": "being planned", "running": "running", "over": "over"}
JOB_STATES = {"queued": "waiting", "split": "failed, split in two"}


class NightShown(NamedTuple):
    """A night, its state in words, its probes that are done and that are to be in all, what was and will be paid."""

    night: Night
    state: str
    done: int
    to_do: int
    cost: float
    expected_cost: float


def night_shown(night: Night, prices: Prices) -> NightShown:
    """Return a night for people, at the prices of the settings."""
    totals = night.totals
    done = totals.built + totals.without_data + totals.failed + totals.cancelled
    cost, expected = (read / TIB * prices.tib for read in (totals.bytes, max(totals.bytes, totals.expected_bytes)))
    return NightShown(night, _state(night), done, done + totals.to_build, cost, expected)


def _state(night: Night) -> str:
    """Return the state of a night in words."""
    if night.over and night.error:
        return "cancelled" if night.error.code == "cancelled" else "not planned to its end"
    return STATES[night.state]
