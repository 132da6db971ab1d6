"""The client's event ids are UUIDs of version 7: unique, and in the order of the milliseconds they were made in."""

from __future__ import annotations

import time
from uuid import RFC_4122

from usage_service.client.outgoing import new_event_id


def test_ids_are_of_version_7_and_differ() -> None:
    ids = [new_event_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(made.version == 7 and made.variant == RFC_4122 for made in ids)


def test_ids_begin_with_the_time_and_so_rise() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_event_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000
    stamps = [made.int >> 80 for made in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after
