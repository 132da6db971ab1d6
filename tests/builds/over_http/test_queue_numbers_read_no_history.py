"""Numbers of the queue are read from pending builds and the last day, however many builds there have ever been."""

from __future__ import annotations

from typing import TypedDict

import msgspec
import pytest

from tests.support.building import asked
from tests.support.servers import Client, Connection
from usage_service.queries import query

pytestmark = pytest.mark.asyncio(loop_scope="module")

HISTORY, LAST_DAY = 5_000, 7
ENDED = """
    INSERT INTO builds
        (product, channel, probe, metric_type, pings, state, not_before, requested_at, finished_at, log_position)
    SELECT 'fog', 'nightly', 'p' || n, 'counter', '{}', 'no_data', at, at, at, 0
    FROM (SELECT n, now() - CASE WHEN n <= $1 THEN interval '1 hour' ELSE interval '2 days' END AS at
          FROM generate_series(1, $2::integer) n) past
"""
Node = TypedDict(
    "Node", {"Plans": "list[Node]", "Relation Name": str, "Actual Rows": float, "Node Type": str}, total=False
)


class Explained(TypedDict):
    Plan: Node


def scans(node: Node) -> list[Node]:
    """Return the nodes of the plan that read builds."""
    own = [node] if node.get("Relation Name") == "builds" else []
    return own + [scan for inner in node.get("Plans", []) for scan in scans(inner)]


async def test_old_builds_are_neither_read_nor_counted(client: Client, database: Connection) -> None:
    await database.execute(ENDED, LAST_DAY, HISTORY)
    await database.execute("ANALYZE builds")
    await asked(client, "probe_1")
    counted = {row["state"]: row["builds"] for row in await database.fetch(query("builds", "queue"))}
    assert counted == {"queued": 1, "no_data": LAST_DAY}
    text = await database.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query('builds', 'queue')}")
    [explained] = msgspec.json.decode(text, type=list[Explained])
    plan = explained["Plan"]
    assert sum(scan["Actual Rows"] for scan in scans(plan)) == LAST_DAY + 1
    assert "Seq Scan" not in {scan["Node Type"] for scan in scans(plan)}
