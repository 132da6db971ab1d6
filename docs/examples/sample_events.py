"""Sample events of the guide, printed one JSON object a line: sixty people in twenty days."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

BEGIN = datetime(2026, 11, 1, 9, tzinfo=UTC)
PROBES = ["gc_ms", "fx_page_load_ms", "wr_renderer_time", "gc_ms", "memory_total"]
TOOLS = ["looker", "stmo"]


def visit(person: int) -> Iterator[dict[str, object]]:
    """Return the events of one person, in order, a minute apart."""
    probe = PROBES[person % 5]
    yield {"type": "page_viewed", "data": {"page": "/"}}
    if person % 4:
        yield {"type": "probe_searched", "data": {"query": probe[:3], "results": person % 9}}
    if person % 3:
        yield {"type": "probe_viewed", "probe": probe, "data": {"found": person % 7 != 0}}
    if person % 5 == 1:
        yield {"type": "link_followed", "data": {"tool": TOOLS[person % 2]}}


for person in range(60):
    for step, event in enumerate(visit(person)):
        occurred_at = BEGIN + timedelta(days=person % 20, minutes=7 * person + step)
        who = {"event_id": str(UUID(int=10 * person + step)), "visitor": f"person {person}", "product": "fog"}
        print(json.dumps(event | who | {"occurred_at": occurred_at.isoformat()}))
