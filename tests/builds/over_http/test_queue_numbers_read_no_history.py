"""Numbers of the queue are read from what is pending and the last day, however much there has ever been."""

from __future__ import annotations

from typing import TypedDict

import msgspec
import pytest

from tests.support.building import asked
from tests.support.night_calls import night_of
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
    "Node",
    {"Plans": "list[Node]", "Relation Name": str, "Actual Rows": float, "Actual Loops": float, "Node Type": str},
    total=False,
)


class Explained(TypedDict):
    Plan: Node


def scans(node: Node, table: str = "builds") -> list[Node]:
    """Return the nodes of the plan that read a table."""
    own = [node] if node.get("Relation Name") == table else []
    return own + [scan for inner in node.get("Plans", []) for scan in scans(inner, table)]


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


NIGHTS = """
    WITH past AS (
        INSERT INTO nights (product, channel, source, state, run_date, not_before, requested_at, finished_at)
        SELECT 'fog', 'nightly', 'test', 'over', current_date, at, at, at
        FROM (SELECT now() - n * interval '1 day' AS at FROM generate_series(1, $1::integer) n) past
        RETURNING night_id
    ), jobs AS (
        INSERT INTO shared_jobs (night_id, builds, state, not_before, queued_at, finished_at)
        SELECT night_id, ARRAY[gen_random_uuid()], 'done', now(), now(), now() FROM past, generate_series(1, 3)
    )
    INSERT INTO night_probes (night_id, place, probe, outcome)
    SELECT night_id, n, 'p' || n, 'left' FROM past, generate_series(1, 20) n
"""


@pytest.mark.parametrize(("name", "values"), [("under_way", ()), ("page", (None, None, None, None, None, None, 2))])
async def test_old_nights_are_not_read(
    client: Client, database: Connection, name: str, values: tuple[object, ...]
) -> None:
    await database.execute(NIGHTS, 500)
    await night_of(database, "probe_1", "probe_2")
    await database.execute("ANALYZE nights, shared_jobs, night_probes, builds")
    rows = await database.fetch(query("nights", name), *values)
    assert rows[0]["state"] == "planning"
    text = await database.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query('nights', name)}", *values)
    [explained] = msgspec.json.decode(text, type=list[Explained])
    read = [scan for table in ("night_probes", "shared_jobs") for scan in scans(explained["Plan"], table)]
    assert read
    assert sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in read) < 100, text
