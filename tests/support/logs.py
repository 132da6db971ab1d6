"""Logs for tests of reading: made exports, and files of analyses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from uuid import UUID

from tests.support.servers import JsonObject

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
KINDS = ["page_viewed", "probe_viewed", "x_mine", "probe_searched"]
DATA: dict[str, JsonObject] = {
    "page_viewed": {"page": "/"},
    "probe_viewed": {"found": True},
    "probe_searched": {"query": "gc", "results": 3},
    "x_mine": {"deep": [1, {"text": 'quotes " \\ é \u2028'}]},
}


def line(position: int) -> JsonObject:
    """Return an event as it is exported; every third position is a gap."""
    kind = KINDS[position % 4]
    return {
        "position": position,
        "event_id": str(UUID(int=position)),
        "type": kind,
        "schema_version": 1,
        "occurred_at": (BEGIN + timedelta(minutes=position)).isoformat(),
        "recorded_at": (BEGIN + timedelta(minutes=position + 1)).isoformat(),
        "visitor": str(UUID(int=position % 7)) if position % 5 else None,
        "product": "fenix" if position % 4 == 0 else "fog",
        "channel": None,
        "probe": f"probe_{position % 11}",
        "source": "app",
        "data": DATA[kind] | ({"number": position} if kind == "x_mine" else {}),
        "digest": str(UUID(int=2 * position)),
        "late": False,
    }


def write_log(path: Path, events: int) -> Path:
    """Write an export of that many events to NDJSON."""
    positions = [position for position in range(1, 2 * events + 2) if position % 3][:events]
    path.write_text("".join(json.dumps(line(position)) + "\n" for position in positions), "utf-8")
    return path


def write_analysis(path: Path, text: str) -> Path:
    """Write a file of Python."""
    path.write_text(dedent(text), "utf-8")
    return path


SUM = """
    class Sum:
        columns = ["position"]
        def __init__(self):
            self.events, self.sum = 0, 0
        def apply(self, batch):
            self.events += batch.num_rows
            self.sum = (self.sum * 31 + sum(batch.column("position").to_pylist())) % 1_000_003
        def result(self):
            return {"events": self.events, "sum": self.sum}
"""
"""An analysis whose result tells whether every event was applied once and in order, in batches of the same size."""
