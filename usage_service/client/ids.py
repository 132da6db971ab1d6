"""Ids of events that rise with time, so that the log's index of ids grows at one end however long it is."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_event_id() -> UUID:
    """A UUID version 7 (RFC 9562, 5.7): 48 bits of milliseconds since 1970, then random ones."""
    stamped = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=stamped & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)
