"""Finding of a check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

State = Literal["ok", "note", "wrong", "unchecked"]
MOST_SKEW = 5.0  # seconds between two clocks: more moves events to other hours, and leases to other builders
CLOCK_MEND = "set both clocks by NTP (`timedatectl` tells whether they are)"


class Finding(msgspec.Struct, frozen=True):
    """State of a part, what was seen of it, and what to do about it; `unchecked` where nothing names the part."""

    part: str
    state: State
    seen: str
    mend: str = ""


def clock_finding(part: str, theirs: datetime, before: datetime, after: datetime) -> Finding:
    """Compare a clock with ours, which said `before` and `after` around its answer."""
    ahead = max(0.0, (theirs - after).total_seconds()) - max(0.0, (before - theirs).total_seconds())
    if abs(ahead) > MOST_SKEW:
        which = "ahead of" if ahead > 0 else "behind"
        return Finding(part, "wrong", f"{abs(ahead):,.0f} s {which} the clock here", CLOCK_MEND)
    return Finding(part, "ok", f"within {MOST_SKEW:.0f} s of the clock here")


def now() -> datetime:
    """Return the time by the clock here."""
    return datetime.now(UTC)
